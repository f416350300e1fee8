/* Who froze a container, and what happens when nobody is left to thaw it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "engine/monitor/monitor.h"
#include "tests/unit/monitor_fixture.h"

#define HANDOVER "handover.json"

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

/* A client that has named a tracer, who lives until it is buried. */
static int client_with_tracer(struct rig *r, pid_t *ret_tracer)
{
	int holder = client(r), pidfd;
	struct monitor_message m;
	struct error err;

	*ret_tracer = sleeper(&pidfd);
	OK(monitor_call(holder, MONITOR_TRACER, pidfd, &m, &err));
	fd_close(&pidfd);
	return holder;
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
	pid_t tracer;
	int holder = client_with_tracer(r, &tracer);

	freeze(holder);
	bury(tracer);
	round_trip(r);
	assert_true(frozen(r));
	fd_close(&holder);
	await_status(r, CONTAINER_RUNNING);
	end(r);
}

/* A checkpoint of a paused container that fails before the freeze. */
static void tracer_without_a_lease_thaws_nothing(void **state)
{
	struct rig *r = live(*state);
	struct error err;
	pid_t tracer;
	int holder;

	OK(cgroup_freeze(r->cg, PATIENCE_US, &err));
	assert_int_equal(state_of(r).status, CONTAINER_PAUSED);
	holder = client_with_tracer(r, &tracer);
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

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, home_setup, home_teardown)
	const struct CMUnitTest tests[] = {
		TEST(lease_ends_with_its_client),
		TEST(lease_ends_by_thaw),
		TEST(lease_lasts_as_long_as_its_tracer),
		TEST(tracer_that_dies_before_its_client),
		TEST(tracer_without_a_lease_thaws_nothing),
		TEST(decision_on_disk_outlives_its_maker),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
