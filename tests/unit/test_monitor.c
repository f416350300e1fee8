/* How a container starts, lives, and goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "engine/monitor/monitor.h"
#include "engine/monitor/output.h"
#include "tests/unit/monitor_fixture.h"

static int fail_to_start(struct monitor_setup *s, void *ctx, pid_t *ret_pid, int *ret_terminal,
			 struct error *err)
{
	(void)ctx;
	*ret_terminal = -EBADF;
	*ret_pid = fork();		/* and is not even in the cgroup */
	if (*ret_pid == 0)
		be_container(s);
	return error_set(err, ENOEXEC, "it would not start");
}

/* Its state can't be written any more: a folder is in the way. */
static int start_unrecorded(struct monitor_setup *s, void *ctx, pid_t *ret_pid, int *ret_terminal,
			    struct error *err)
{
	char tmp[64];

	s->irrevocable = *(const bool *)ctx;
	(void)snprintf(tmp, sizeof(tmp), ".state.json.tmp%d", (int)getpid());
	(void)mkdirat(s->container->dir_fd, tmp, 0700);
	return start(s, ctx, ret_pid, ret_terminal, err);
}

static void life_of_a_container(void **state)
{
	struct rig *r = live(*state);
	CLEANUP(container_freep) struct container *c = NULL;
	CLEANUP(freep) char *log = NULL;
	CLEANUP(fd_closep) int waiter = client(r);
	struct monitor_message m;
	struct container_state st = state_of(r);
	struct error err;
	bool populated;

	assert_int_equal(st.status, CONTAINER_RUNNING);
	assert_true(st.monitor_alive && st.pid > 0 && st.started_us);
	OK(cgroup_is_populated(r->cg, &populated, &err));
	assert_true(populated);
	say(r, "abc\n");
	receive(r->control, MONITOR_OUTPUT, &m);
	assert_int_equal(m.value[0], OUTPUT_STDERR);
	assert_memory_equal(m.data, "abc\n", 4);
	OK(monitor_send(waiter, MONITOR_WAIT, NULL, NULL, 0, -EBADF, &err));
	round_trip(r);
	OK(container_open(r->home->node, "web", &c, &err));
	end(r);
	receive(waiter, MONITOR_WAIT, &m);
	assert_int_equal(m.code, 7);
	OK(container_state(c, &st, &err));
	assert_int_equal(st.status, CONTAINER_EXITED);
	assert_true(st.exit_code == 7 && st.finished_us >= st.started_us);
	assert_int_equal(faccessat(c->dir_fd, "monitor.sock", F_OK, 0), -1);
	OK(fd_read_file_at(c->dir_fd, "meta/log", 65536, &log, NULL, &err));
	assert_true(strstr(log, "stdout F hello\n") && strstr(log, "stderr F abc\n"));
}

static void discarded_one_leaves_nothing(void **state)
{
	struct home *h = *state;
	struct rig *r = live(h);
	CLEANUP(container_freep) struct container *c = NULL;
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	CLEANUP(fd_closep) int holder = client(r);
	pid_t pid = state_of(r).pid;
	struct monitor_message m;
	struct error err;

	freeze(holder);
	OK(monitor_call(holder, MONITOR_DISCARD, -EBADF, &m, &err));
	FAILS(container_open(h->node, "web", &c, &err), ENOENT, "web");
	FAILS(container_cgroup(r->c, false, &cg, &err), ENOENT, "");
	assert_int_equal(container_pid_start(pid), 0);
	rig_free(r);
}

static void failed_start_leaves_nothing(void **state)
{
	const struct monitor_plan plan = { .start = fail_to_start };
	struct rig *r = rig_new(*state, &plan);
	CLEANUP(container_freep) struct container *c = NULL;
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	struct monitor_message m;
	struct error err;

	receive(r->control, MONITOR_STARTED, &m);
	assert_int_equal(m.value[0], ENOEXEC);
	assert_memory_equal(m.data, "it would not start", m.len);
	FAILS(container_open(r->home->node, "web", &c, &err), ENOENT, "web");
	FAILS(container_cgroup(r->c, false, &cg, &err), ENOENT, "");
	rig_free(r);
}

static void failed_start_may_keep_the_folder(void **state)
{
	const struct monitor_plan plan = { .start = fail_to_start, .keep_on_failure = true };
	struct rig *r = rig_new(*state, &plan);
	struct monitor_message m;

	receive(r->control, MONITOR_STARTED, &m);
	assert_int_equal(m.value[0], ENOEXEC);
	assert_int_equal(state_of(r).status, CONTAINER_EXITED);
	assert_string_equal(state_of(r).reason, "it would not start");
	rig_free(r);
}

static void only_what_is_irrevocable_lives_unrecorded(void **state)
{
	bool irrevocable = true, alive;
	const struct monitor_plan plan = { .start = start_unrecorded, .ctx = &irrevocable };
	struct rig *r = rig_new(*state, &plan);
	struct monitor_message m;
	struct error err;

	receive(r->control, MONITOR_STARTED, &m);
	assert_int_equal(m.value[0], 0);
	OK(container_cgroup(r->c, false, &r->cg, &err));
	OK(cgroup_is_populated(r->cg, &alive, &err));
	assert_true(alive);
	OK(monitor_call(r->control, MONITOR_DISCARD, -EBADF, &m, &err));
	rig_free(r);
	irrevocable = false;
	r = rig_new(*state, &plan);
	receive(r->control, MONITOR_STARTED, &m);
	assert_int_equal(m.value[0], EISDIR);
	rig_free(r);
}

static void nonsense_is_answered_or_dropped(void **state)
{
	struct rig *r = live(*state);
	CLEANUP(fd_closep) int odd = client(r);
	CLEANUP(fd_closep) int broken = client(r);
	struct monitor_message m = { .op = MONITOR_STDIN, .len = 1000 };
	struct error err;

	FAILS(monitor_call(odd, 77, -EBADF, &m, &err), EOPNOTSUPP, "does not know");
	m = (struct monitor_message){ .op = MONITOR_STDIN, .len = 1000 };
	assert_int_equal(send(broken, &m, offsetof(struct monitor_message, data), 0),
			 offsetof(struct monitor_message, data));
	FAILS(monitor_receive(broken, &m, &err), ECONNRESET, "");
	round_trip(r);
	end(r);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, home_setup, home_teardown)
	const struct CMUnitTest tests[] = {
		TEST(life_of_a_container),
		TEST(discarded_one_leaves_nothing),
		TEST(failed_start_leaves_nothing),
		TEST(failed_start_may_keep_the_folder),
		TEST(only_what_is_irrevocable_lives_unrecorded),
		TEST(nonsense_is_answered_or_dropped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
