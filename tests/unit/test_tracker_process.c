/*
 * What a followed process goes through while it is followed: calls that wait,
 * signals, another program, a child that borrows its memory. It must notice nothing.
 */
#include "tests/unit/tracker_fixture.h"

#include <poll.h>
#include <sys/syscall.h>
#include <time.h>

/* Each of these must go on waiting, as if nobody had come by. */
static int wait_in_calls(struct shared *s)
{
	struct timespec half = { .tv_nsec = 500000000 }, left = { 0 };
	struct pollfd nothing = { .fd = -1 };
	uint64_t start_us = clock_us();
	int futex = 0, fds[2];
	char byte = 0;

	if (pipe(fds) < 0)
		return 92;
	if (fork() == 0) {
		(void)usleep(400000);
		(void)!write(fds[1], "x", 1);
		_exit(0);
	}
	s->value[0] = read(fds[0], &byte, 1);
	s->value[1] = byte == 'x';
	s->ready = 1;
	start_us = clock_us();
	s->value[2] = nanosleep(&half, &left);
	s->value[3] = (long)(clock_us() - start_us);
	start_us = clock_us();
	s->value[4] = poll(&nothing, 1, 300);
	s->value[5] = (long)(clock_us() - start_us);
	s->value[6] = syscall(SYS_futex, &futex, 0 /* WAIT */, 0, &half, NULL, 0) < 0 ? errno : 0;
	s->ready = 2;
	for (;;)
		(void)pause();
	return 0;
}

static void waiting_system_calls_wait_on(void **state)
{
	struct box *b = *state;

	(void)box_start(b, wait_in_calls);
	while (b->shared->ready < 2) {
		(void)usleep(30000);
		box_open(b, TRACKER_UFFD);
		box_round(b);
		tracker_free(b->t);
		b->t = NULL;
	}
	assert_int_equal(b->shared->value[0], 1);
	assert_int_equal(b->shared->value[1], 1);
	assert_int_equal(b->shared->value[2], 0);
	assert_in_range(b->shared->value[3], 500000, 700000);
	assert_int_equal(b->shared->value[4], 0);
	assert_in_range(b->shared->value[5], 299000, 500000);
	assert_int_equal(b->shared->value[6], ETIMEDOUT);
}

static volatile sig_atomic_t usr1, traps;

static void count_signal(int sig)
{
	if (sig == SIGTRAP)
		traps++;
	else
		usr1++;
}

/* Signals to itself, all the time: each must arrive once, none of ours ever. */
static int signal_itself(struct shared *s)
{
	(void)signal(SIGUSR1, count_signal);
	(void)signal(SIGTRAP, count_signal);
	s->ready = 1;
	while (!s->stop) {
		(void)kill(getpid(), SIGUSR1);
		s->value[0]++;
	}
	s->value[1] = usr1;
	s->value[2] = traps;
	s->ready = 2;
	for (;;)
		(void)pause();
	return 0;
}

static void signals_arrive_once(void **state)
{
	struct box *b = *state;

	(void)box_start(b, signal_itself);
	box_wait(&b->shared->ready, 1);
	for (int i = 0; i < 200; i++) {
		box_open(b, TRACKER_UFFD);
		box_round(b);
		tracker_free(b->t);
		b->t = NULL;
	}
	b->shared->stop = 1;
	box_wait(&b->shared->ready, 2);
	assert_int_equal(b->shared->value[1], b->shared->value[0]);
	assert_int_equal(b->shared->value[2], 0);
}

static int execute(struct shared *s)
{
	char *area = map(NULL, 16, PROT_READ | PROT_WRITE);

	s->area = (uintptr_t)area;
	memset(area, 'e', 16ul * PAGE);
	step(s, 1);
	(void)execl("/bin/sleep", "sleep", "1000", (char *)NULL);
	return 95;
}

/* The process is sleep(1), and asleep: what its start writes is written. */
static void wait_asleep(pid_t pid)
{
	for (uint64_t end_us = clock_us() + 20 * SECOND_US; clock_us() < end_us; (void)sched_yield()) {
		CLEANUP(freep) char *name = text_of(pid, "comm");
		CLEANUP(freep) char *call = text_of(pid, "syscall");

		if (!strncmp(name, "sleep", strlen("sleep")) &&
		    (atol(call) == SYS_clock_nanosleep || atol(call) == SYS_nanosleep))
			return;
	}
	fail_msg("process %d never slept", pid);
}

static void another_program_is_another_generation(void **state)
{
	struct box *b = *state;
	pid_t pid = box_start(b, execute);
	uint64_t before, after;

	box_open(b, TRACKER_UFFD);
	box_wait(&b->shared->ready, 1);
	box_watch(b, pid, b->shared->area, 16);
	box_round(b);
	assert_int_equal(b->reported, 16);
	before = b->generation;
	box_round(b);
	assert_int_equal(b->generation, before);
	b->shared->go = 1;
	wait_asleep(pid);
	box_round(b);			/* whole */
	after = b->generation;
	assert_true(after > before);
	assert_true(b->total > 5);
	for (int i = 0; i < 3 && b->total > 5; i++)
		box_round(b);		/* and once more when it is followed, unless it was at once */
	assert_true(b->total <= 5);
	b->generation = after;
	box_finish(b);
}

/* Its parent does not stop as long as it lives: nobody may wait for that. */
static int vfork_and_wait(struct shared *s)
{
	s->area = (uintptr_t)map(NULL, 16, PROT_READ | PROT_WRITE);
	memset((char *)s->area, 'v', 16ul * PAGE);
	s->child = getpid();
	if (vfork() == 0) {
		s->child = getpid();
		s->ready = 1;
		while (!s->go)
			(void)sched_yield();
		(void)execl("/bin/sleep", "sleep", "1000", (char *)NULL);
		_exit(96);
	}
	s->ready = 2;
	for (;;)
		(void)pause();
	return 0;
}

static void a_process_that_does_not_stop_comes_whole(void **state)
{
	struct box *b = *state;
	pid_t pid = box_start(b, vfork_and_wait);
	uint64_t start_us;

	box_open(b, TRACKER_UFFD);
	box_wait(&b->shared->ready, 1);
	box_watch(b, pid, b->shared->area, 16);
	for (int i = 0; i < 3; i++) {
		start_us = clock_us();
		box_round(b);
		assert_int_equal(b->reported, 16);
		assert_true(clock_us() - start_us < SECOND_US);
	}
	assert_int_equal(status_of(pid, "\nTracerPid:"), 0);
	b->shared->go = 1;
	box_wait(&b->shared->ready, 2);
	wait_asleep(b->shared->child);
	for (int i = 0; i < 4; i++)
		box_round(b);
	box_finish(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOX_TEST(waiting_system_calls_wait_on),
		BOX_TEST(signals_arrive_once),
		BOX_TEST(another_program_is_another_generation),
		BOX_TEST(a_process_that_does_not_stop_comes_whole),
	};

	if (geteuid() != 0)
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
