/*
 * Real monitors, whose containers are one plain process in a cgroup: it says
 * hello, repeats each line that it reads, and at "exit" ends with 7.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "engine/base/clock.h"
#include "engine/monitor.h"
#include "engine/output.h"
#include "tests/unit/node_fixture.h"

#define PATIENCE_US 20000000
#define HANDOVER "handover.json"

struct rig {
	struct home *home;
	struct container *c;
	struct cgroup *cg;
	int control;
};

static _Noreturn void be_container(const struct monitor_setup *s)
{
	char line[256];

	for (int i = 0; i < 3; i++)
		if (s->stdio[i] >= 0)
			(void)dup2(s->stdio[i], i);
	(void)close_range(3, ~0U, 0);
	(void)!write(1, "hello\n", 6);
	for (;;) {
		ssize_t n = read(0, line, sizeof(line));

		if (n <= 0)
			(void)pause();
		if (n == 5 && !memcmp(line, "exit\n", 5))
			_exit(7);
		(void)!write(2, line, (size_t)n);
	}
}

static int start(struct monitor_setup *s, void *ctx, pid_t *ret_pid, int *ret_terminal, struct error *err)
{
	(void)ctx;
	*ret_terminal = -EBADF;
	*ret_pid = fork();
	if (*ret_pid == 0)
		be_container(s);
	return *ret_pid < 0 ? error_set(err, errno, "fork") : cgroup_join(s->cgroup, *ret_pid, err);
}

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

static void receive(int fd, uint32_t op, struct monitor_message *m)
{
	struct error err;

	OK(monitor_receive(fd, m, &err));
	if (m->op != op)
		fail_msg("message %u instead of %u: %.*s", m->op, op, (int)m->len, m->data);
}

static struct rig *rig_new(struct home *h, const struct monitor_plan *plan)
{
	const struct timeval patience = { .tv_sec = PATIENCE_US / 1000000 };
	struct rig *r = calloc(1, sizeof(*r));
	struct error err;

	r->home = h;
	r->c = home_container(h, "web", "", CONTAINER_CREATED);
	OK(monitor_spawn(r->c, plan, &r->control, &err));
	(void)setsockopt(r->control, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return r;
}

static void rig_free(struct rig *r)
{
	fd_close(&r->control);
	cgroup_free(r->cg);
	container_free(r->c);
	free(r);
}

/* One that lives, attached to the control socket. */
static struct rig *live(struct home *h)
{
	const struct monitor_plan plan = { .start = start, .attach = true };
	struct rig *r = rig_new(h, &plan);
	struct monitor_message m;
	struct error err;

	receive(r->control, MONITOR_STARTED, &m);
	assert_int_equal(m.value[0], 0);
	receive(r->control, MONITOR_OUTPUT, &m);
	assert_int_equal(m.len, 6);
	assert_memory_equal(m.data, "hello\n", 6);
	OK(container_cgroup(r->c, false, &r->cg, &err));
	return r;
}

static int client(const struct rig *r)
{
	const struct timeval patience = { .tv_sec = PATIENCE_US / 1000000 };
	struct error err;
	int fd;

	OK(monitor_connect(r->c, &fd, &err));
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

static struct container_state state_of(const struct rig *r)
{
	struct container_state st;
	struct error err;

	OK(container_state(r->c, &st, &err));
	return st;
}

static bool frozen(const struct rig *r)
{
	struct error err;
	bool now;

	OK(cgroup_is_frozen(r->cg, &now, &err));
	return now;
}

static void await_status(const struct rig *r, enum container_status s)
{
	uint64_t end = clock_us() + PATIENCE_US;

	while (state_of(r).status != s) {
		if (clock_us() > end)
			fail_msg("it is %s", container_status_name(state_of(r).status));
		(void)usleep(2000);
	}
}

/* The monitor has dealt with all that came before. */
static void round_trip(const struct rig *r)
{
	CLEANUP(fd_closep) int fd = client(r);
	struct monitor_message m;
	struct error err;

	FAILS(monitor_call(fd, MONITOR_RESIZE, -EBADF, &m, &err), ENOTTY, "");
}

static void say(const struct rig *r, const char *line)
{
	struct error err;

	OK(monitor_send(r->control, MONITOR_STDIN, NULL, line, strlen(line), -EBADF, &err));
}

static void end(struct rig *r)
{
	struct monitor_message m;
	struct error err;

	say(r, "exit\n");
	do
		OK(monitor_receive(r->control, &m, &err));
	while (m.op == MONITOR_OUTPUT);
	assert_int_equal(m.op, MONITOR_WAIT);
	assert_int_equal(m.code, 7);
	rig_free(r);
}

static void freeze(int fd)
{
	struct monitor_message m;
	struct error err;

	OK(monitor_call(fd, MONITOR_FREEZE, -EBADF, &m, &err));
	assert_true(m.value[0] > 1600000000000000);
	assert_true(m.value[1] && m.value[2] && m.value[3]);
}

static pid_t sleeper(int *ret_pidfd)
{
	pid_t pid = fork();

	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)pause();
		_exit(0);
	}
	*ret_pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	assert_true(*ret_pidfd >= 0);
	return pid;
}

static void bury(pid_t pid)
{
	(void)kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
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

static void lease_ends_with_its_client(void **state)
{
	struct rig *r = live(*state);
	int holder = client(r), other = client(r);
	struct monitor_message m;
	struct error err;

	freeze(holder);
	assert_true(frozen(r));
	FAILS(monitor_call(other, MONITOR_FREEZE, -EBADF, &m, &err), EBUSY, "another operation");
	assert_int_equal(state_of(r).status, CONTAINER_MIGRATING);
	fd_close(&other);
	round_trip(r);
	assert_true(frozen(r));
	fd_close(&holder);
	await_status(r, CONTAINER_RUNNING);
	assert_false(frozen(r));
	end(r);
}

static void lease_ends_by_thaw(void **state)
{
	struct rig *r = live(*state);
	int holder = client(r);
	struct monitor_message m;
	struct error err;

	FAILS(monitor_call(holder, MONITOR_THAW, -EBADF, &m, &err), EINVAL, "frozen");
	freeze(holder);
	OK(monitor_call(holder, MONITOR_THAW, -EBADF, &m, &err));
	assert_false(frozen(r));
	assert_int_equal(state_of(r).status, CONTAINER_RUNNING);
	freeze(holder);
	fd_close(&holder);
	await_status(r, CONTAINER_RUNNING);
	end(r);
}

static void lease_lasts_as_long_as_its_tracer(void **state)
{
	struct rig *r = live(*state);
	int holder = client(r), pidfd;
	pid_t tracer = sleeper(&pidfd);
	struct monitor_message m;
	struct error err;

	OK(monitor_call(holder, MONITOR_TRACER, pidfd, &m, &err));
	FAILS(monitor_call(holder, MONITOR_TRACER, -EBADF, &m, &err), EBADF, "descriptor");
	OK(monitor_call(holder, MONITOR_TRACER, pidfd, &m, &err));
	freeze(holder);
	fd_close(&holder);
	round_trip(r);
	assert_true(frozen(r));
	bury(tracer);
	await_status(r, CONTAINER_RUNNING);
	assert_false(frozen(r));
	fd_close(&pidfd);
	end(r);
}

static void tracer_that_dies_before_its_client(void **state)
{
	struct rig *r = live(*state);
	int holder = client(r), pidfd;
	pid_t tracer = sleeper(&pidfd);
	struct monitor_message m;
	struct error err;

	OK(monitor_call(holder, MONITOR_TRACER, pidfd, &m, &err));
	freeze(holder);
	bury(tracer);
	round_trip(r);
	assert_true(frozen(r));
	fd_close(&holder);
	await_status(r, CONTAINER_RUNNING);
	fd_close(&pidfd);
	end(r);
}

/* A checkpoint of a paused container that fails before the freeze. */
static void tracer_without_a_lease_thaws_nothing(void **state)
{
	struct rig *r = live(*state);
	int holder = client(r), pidfd;
	pid_t tracer = sleeper(&pidfd);
	struct monitor_message m;
	struct error err;

	OK(cgroup_freeze(r->cg, PATIENCE_US, &err));
	assert_int_equal(state_of(r).status, CONTAINER_PAUSED);
	OK(monitor_call(holder, MONITOR_TRACER, pidfd, &m, &err));
	bury(tracer);
	round_trip(r);
	round_trip(r);
	assert_true(frozen(r));
	/* And with a lease it stays as it was. */
	freeze(holder);
	fd_close(&holder);
	round_trip(r);
	assert_true(frozen(r));
	await_status(r, CONTAINER_PAUSED);
	OK(cgroup_thaw(r->cg, &err));
	fd_close(&pidfd);
	end(r);
}

static void decision_on_disk_outlives_its_maker(void **state)
{
	struct rig *r = live(*state);
	int holder = client(r);
	struct monitor_message m;
	struct error err;

	freeze(holder);
	OK(fd_replace_file_at(r->c->dir_fd, HANDOVER, "{}", 2, 0600, FD_REPLACE, &err));
	fd_close(&holder);
	round_trip(r);
	round_trip(r);
	assert_true(frozen(r));
	assert_int_equal(state_of(r).status, CONTAINER_IN_DOUBT);
	holder = client(r);
	freeze(holder);
	assert_int_equal(unlinkat(r->c->dir_fd, HANDOVER, 0), 0);
	OK(monitor_call(holder, MONITOR_THAW, -EBADF, &m, &err));
	assert_false(frozen(r));
	fd_close(&holder);
	end(r);
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
		TEST(lease_ends_with_its_client),
		TEST(lease_ends_by_thaw),
		TEST(lease_lasts_as_long_as_its_tracer),
		TEST(tracer_that_dies_before_its_client),
		TEST(tracer_without_a_lease_thaws_nothing),
		TEST(decision_on_disk_outlives_its_maker),
		TEST(discarded_one_leaves_nothing),
		TEST(failed_start_leaves_nothing),
		TEST(failed_start_may_keep_the_folder),
		TEST(only_what_is_irrevocable_lives_unrecorded),
		TEST(nonsense_is_answered_or_dropped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
