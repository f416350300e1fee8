#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/mman.h>

#include "engine/base/cleanup.h"
#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "engine/cgroup/cgroup.h"
#include "tests/unit/cgroup_fixture.h"

static void frozen_processes_stand_still(void **state)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = create("web", &unlimited);
	volatile unsigned *n =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct error err;
	unsigned before;
	bool frozen;
	pid_t pid;

	(void)state;
	assert_true(n != MAP_FAILED);
	pid = start_in(cg, count, (void *)(uintptr_t)n);
	for (int round = 0; round < 5; round++) {
		uint64_t start_us;

		while (*n == 0)
			(void)sched_yield();
		start_us = clock_us();
		assert_int_equal(cgroup_freeze(cg, 5 * SECOND_US, &err), 0);
		print_message("frozen in %llu us\n", (unsigned long long)(clock_us() - start_us));
		before = *n;
		assert_int_equal(cgroup_is_frozen(cg, &frozen, &err), 0);
		assert_true(frozen);
		(void)usleep(20000);
		assert_int_equal(*n, before);
		assert_int_equal(cgroup_thaw(cg, &err), 0);
		while (*n == before)
			(void)sched_yield();
	}
	assert_int_equal(cgroup_is_frozen(cg, &frozen, &err), 0);
	assert_false(frozen);
	assert_int_equal(cgroup_freeze(cg, SECOND_US, &err), 0);
	destroy(cg); /* while frozen */
	assert_int_equal(wait_for(pid), 1000 + SIGKILL);
	assert_int_equal(munmap((void *)(uintptr_t)n, 4096), 0);
}

static sigjmp_buf faulted;

static void on_fault(int signal)
{
	(void)signal;
	siglongjmp(faulted, 1);
}

static int fault(void *ctx)
{
	const struct sigaction action = { .sa_handler = on_fault, .sa_flags = SA_NODEFER };
	void *guard = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (ctx) {	/* one that was sent and is blocked */
		sigset_t mask;

		(void)sigemptyset(&mask);
		(void)sigaddset(&mask, SIGBUS);
		(void)sigprocmask(SIG_BLOCK, &mask, NULL);
		(void)raise(SIGBUS);
	}
	(void)sigaction(SIGSEGV, &action, NULL);
	(void)sigsetjmp(faulted, 0);
	(void)*(volatile char *)guard;
	return 1;
}

static bool has_pending(pid_t pid, int signal)
{
	CLEANUP(freep) char *text = NULL;
	const char *at;
	char path[32];
	struct error err;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", pid);
	assert_int_equal(fd_read_file_at(AT_FDCWD, path, 1 << 16, &text, NULL, &err), 0);
	at = strstr(text, "\nSigPnd:");
	assert_non_null(at);
	return strtoull(at + strlen("\nSigPnd:"), NULL, 16) >> (signal - 1) & 1;
}

/* Each second plain freeze of such a program finds it there. */
static void freeze_in_a_fault(const struct cgroup *cg, pid_t pid)
{
	uint64_t end_us = clock_us() + 60 * SECOND_US;
	struct error err;

	for (;;) {
		assert_int_equal(cgroup_freeze(cg, 5 * SECOND_US, &err), 0);
		if (has_pending(pid, SIGSEGV))
			return;
		assert_int_equal(cgroup_thaw(cg, &err), 0);
		assert_true(clock_us() < end_us);
		(void)usleep(500);
	}
}

static void who_is_dumped_is_not_between_a_fault_and_its_signal(void **state)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = create("web", &unlimited);
	struct error err;
	bool frozen;
	pid_t pid;

	(void)state;
	pid = start_in(cg, fault, cg);
	for (int round = 0; round < 5; round++) {
		freeze_in_a_fault(cg, pid);
		assert_int_equal(cgroup_freeze_to_dump(cg, SECOND_US, &err), -EBUSY);
		assert_non_null(strstr(err.msg, "unpause"));
		assert_int_equal(cgroup_is_frozen(cg, &frozen, &err), 0);
		assert_true(frozen);
		assert_int_equal(cgroup_thaw(cg, &err), 0);
		assert_int_equal(cgroup_freeze_to_dump(cg, 60 * SECOND_US, &err), 0);
		assert_true(has_pending(pid, SIGBUS));
		assert_false(has_pending(pid, SIGSEGV));
		assert_int_equal(cgroup_freeze_to_dump(cg, SECOND_US, &err), 0);
		assert_int_equal(cgroup_thaw(cg, &err), 0);
	}
	destroy(cg);
	assert_int_equal(wait_for(pid), 1000 + SIGKILL);
}

/* So many that two processors can't stop all of them in no time. */
static void a_freeze_that_fails_thaws(void **state)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = create("web", &unlimited);
	CLEANUP(freep) char *text = NULL;
	unsigned n = 0;
	pid_t pids[20];
	struct error err;

	(void)state;
	for (size_t i = 0; i < 20; i++)
		pids[i] = start_in(cg, count, &n);
	assert_int_equal(cgroup_freeze(cg, 0, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.msg, "/web"));
	assert_int_equal(fd_read_file_at(cgroup_fd(cg), "cgroup.freeze", 16, &text, NULL, &err), 0);
	assert_int_equal(*text, '0');
	assert_int_equal(cgroup_kill(cg, 5 * SECOND_US, &err), 0);
	for (size_t i = 0; i < 20; i++)
		assert_int_equal(wait_for(pids[i]), 1000 + SIGKILL);
	destroy(cg);
}

static int run_group(const char *layout)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frozen_processes_stand_still),
		cmocka_unit_test(who_is_dumped_is_not_between_a_fault_and_its_signal),
		cmocka_unit_test(a_freeze_that_fails_thaws),
	};

	return cmocka_run_group_tests_name(layout, tests, set_parent, remove_parent);
}

int main(void)
{
	return in_each_layout(run_group);
}
