/*
 * A process with threads that come and go and count; held, nothing counts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "engine/base/cleanup.h"
#include "engine/base/clock.h"
#include "migrate/memory/hold.h"

enum { THREADS = 8, SECOND_US = 1000000 };

static void *count(void *arg)
{
	unsigned *n = arg;

	for (int i = 0; i < 200000; i++)
		__atomic_add_fetch(n, 1, __ATOMIC_RELAXED);
	return NULL;
}

/* Threads end and are started again, all the time. */
static _Noreturn void run(unsigned *n)
{
	pthread_t threads[THREADS];

	for (;;) {
		for (size_t i = 0; i < THREADS; i++)
			if (pthread_create(threads + i, NULL, count, n) != 0)
				_exit(1);
		for (size_t i = 0; i < THREADS; i++)
			(void)pthread_join(threads[i], NULL);
	}
}

static unsigned read_count(const unsigned *n)
{
	return __atomic_load_n(n, __ATOMIC_RELAXED);
}

static pid_t start(unsigned *n)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		run(n);
	}
	while (read_count(n) == 0)
		(void)sched_yield();
	return pid;
}

static void nothing_runs_in_a_process_that_is_held(void **state)
{
	unsigned *n = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct error err;
	pid_t pid;

	(void)state;
	assert_true(n != MAP_FAILED);
	pid = start(n);
	for (int i = 0; i < 50; i++) {
		struct helper hold = HELPER_EMPTY;
		unsigned before;

		if (hold_begin(pid, 5 * SECOND_US, &hold, &err) < 0)
			fail_msg("%s", err.msg);
		before = read_count(n);
		(void)usleep(2000);
		assert_int_equal(read_count(n), before);
		helper_end(&hold);
		for (uint64_t end_us = clock_us() + 10 * SECOND_US; read_count(n) == before;) {
			assert_true(clock_us() < end_us);
			(void)sched_yield();
		}
	}
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	(void)munmap(n, 4096);
}

/* vfork(2) can't be stopped; its caller goes on when its child does. */
static void what_does_not_stop_is_let_go(void **state)
{
	unsigned *n = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct helper hold = HELPER_EMPTY;
	struct error err;
	pid_t pid;

	(void)state;
	assert_true(n != MAP_FAILED);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (vfork() == 0) {
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			__atomic_store_n(n, 1, __ATOMIC_SEQ_CST);
			while (read_count(n) != 2)
				(void)sched_yield();
			_exit(0);
		}
		_exit(7);
	}
	while (read_count(n) != 1)
		(void)sched_yield();
	assert_int_equal(hold_begin(pid, SECOND_US / 20, &hold, &err), -ETIMEDOUT);
	__atomic_store_n(n, 2, __ATOMIC_SEQ_CST);

	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	assert_true(hold_begin(pid, SECOND_US, &hold, &err) < 0);
	(void)munmap(n, 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_runs_in_a_process_that_is_held),
		cmocka_unit_test(what_does_not_stop_is_let_go),
	};

	return geteuid() == 0 ? cmocka_run_group_tests(tests, NULL, NULL) : 77;
}
