/*
 * Real processes in a real cgroup. Steps are agreed upon over shared memory, so
 * that what was written between two rounds is known exactly.
 */
#include "tests/unit/tracker_fixture.h"

#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>

enum { AREA = 4096, KNOWN = 1000 };

/* A text file of a process; the caller frees. */
static char *text_of(pid_t pid, const char *file)
{
	struct error err;
	char path[64], *text = NULL;

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	assert_int_equal(fd_read_file_at(AT_FDCWD, path, 64 << 20, &text, NULL, &err), 0);
	return text;
}

static long status_of(pid_t pid, const char *key)
{
	CLEANUP(freep) char *text = text_of(pid, "status");
	const char *at = strstr(text, key);

	return at ? atol(at + strlen(key)) : -1;
}

/* Pages that are written in step n: some that exist, some that don't yet. */
static bool in_step(int n, size_t page)
{
	switch (n) {
	case 1: return page < KNOWN;
	case 2: return page % 7 == 0;
	case 3: return false;
	case 4: return page >= 500 && page < 1500;
	default: return true;
	}
}

static int write_known(struct shared *s)
{
	char *area = map(NULL, AREA, PROT_READ | PROT_WRITE);

	s->area = (uintptr_t)area;
	for (int n = 1; n <= 5; n++) {
		step(s, n);
		for (size_t i = 0; i < AREA; i++)
			if (in_step(n, i))
				area[i * PAGE + i % PAGE] = (char)(n + 64);
	}
	step(s, 6);
	for (;;)
		(void)pause();
	return 0;
}

static void follow_known(struct box *b, pid_t pid, enum tracker_kind kind)
{
	box_open(b, kind);
	box_wait(&b->shared->ready, 1);
	box_watch(b, pid, b->shared->area, AREA);
	box_round(b);
	assert_int_equal(b->reported, 0);
	for (int n = 1; n <= 5; n++) {
		box_step(b, n);
		box_round(b);
		for (size_t i = 0; i < AREA; i++)
			if (b->bitmap[i] != in_step(n, i))
				fail_msg("step %d: page %zu is%s handed out", n, i,
					 b->bitmap[i] ? "" : " not");
		assert_true(b->total - b->reported < 128);
	}
	box_finish(b);
}

static void exactly_what_was_written_is_handed_out(void **state)
{
	struct box *b = *state;
	pid_t pid = box_start(b, write_known);

	follow_known(b, pid, TRACKER_ANY);
	assert_int_equal(tracker_kind(b->t), TRACKER_UFFD);
	assert_int_equal(b->ns_pid, pid);
}

/* uid 1000 without any capability; userfaultfd would kill, even. */
static int write_known_confined(struct shared *s)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(*code), code };

	for (int cap = 0; cap < 64; cap++)
		(void)prctl(PR_CAPBSET_DROP, cap);
	if (setgroups(0, NULL) < 0 || setresgid(1000, 1000, 1000) < 0 ||
	    setresuid(1000, 1000, 1000) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		return 91;
	return write_known(s);
}

static void a_confined_process_is_followed_as_well(void **state)
{
	struct box *b = *state;
	pid_t pid = box_start(b, write_known_confined);

	follow_known(b, pid, TRACKER_UFFD);
	assert_int_equal(status_of(pid, "\nSeccomp:"), 2);
}

static void all_traces_vanish_with_the_tracker(void **state)
{
	struct box *b = *state;
	pid_t pid = box_start(b, write_known);
	CLEANUP(freep) char *during = NULL;
	CLEANUP(freep) char *after = NULL;
	long fds, threads;

	box_open(b, TRACKER_UFFD);
	box_wait(&b->shared->ready, 1);
	fds = status_of(pid, "\nFDSize:");
	threads = status_of(pid, "\nTracerPid:");
	box_round(b);
	during = text_of(pid, "smaps");
	assert_non_null(strstr(during, " uw"));
	box_step(b, 1);
	tracker_free(b->t);
	b->t = NULL;
	after = text_of(pid, "smaps");
	assert_null(strstr(after, " uw"));
	assert_null(strstr(after, " um"));
	assert_int_equal(status_of(pid, "\nFDSize:"), fds);
	assert_int_equal(status_of(pid, "\nTracerPid:"), threads);
	for (int n = 2; n <= 5; n++)
		box_step(b, n);
}

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

/* Mappings that become others, one way of each kind a step. */
static int remap(struct shared *s)
{
	char *area = map(NULL, 64, PROT_READ | PROT_WRITE);
	char *gap = map(NULL, 64, PROT_NONE);
	char *moved;

	s->area = (uintptr_t)area;
	memset(area, 'a', 64ul * PAGE);
	step(s, 1);
	/* the pages of 32.. come to lie at 0.., with whatever marks they have */
	moved = mremap(area + 32ul * PAGE, 16ul * PAGE, 16ul * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		       area);
	if (moved != area)
		return 93;
	step(s, 2);
	(void)map(area + 16ul * PAGE, 8, PROT_READ | PROT_WRITE);	/* replaced */
	area[16ul * PAGE] = 'b';
	step(s, 3);
	(void)mprotect(area, 16ul * PAGE, PROT_NONE);
	step(s, 4);
	(void)mprotect(area, 16ul * PAGE, PROT_READ | PROT_WRITE);
	area[3ul * PAGE] = 'c';
	step(s, 5);
	(void)madvise(area, 4ul * PAGE, MADV_DONTNEED);
	s->value[0] = *(volatile char *)(area + PAGE);		/* the zero page */
	area[2ul * PAGE] = 'd';
	step(s, 6);
	(void)mlock(area + 8ul * PAGE, PAGE);
	area[8ul * PAGE] = 'l';
	step(s, 7);
	(void)munlock(area + 8ul * PAGE, PAGE);
	step(s, 8);
	(void)munmap(gap, 64ul * PAGE);
	for (;;)
		(void)pause();
	return 0;
}

static void expect_pages(struct box *b, int n, const char *expected)
{
	char got[65] = { 0 };

	for (size_t i = 0; i < 64; i++)
		got[i] = b->bitmap[i] ? 'x' : '.';
	if (strcmp(got, expected) != 0)
		fail_msg("step %d: %s instead of %s", n, got, expected);
}

static void mappings_that_become_others_come_whole(void **state)
{
	static const char *const expected[] = {
		"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
		"xxxxxxxxxxxxxxxx................................................",
		"................x...............................................",
		"................................................................",
		"...x............................................................",
		"..x.............................................................",
		"........x.......................................................",	/* locked, like any other */
		"................................................................",
	};
	struct box *b = *state;
	pid_t pid = box_start(b, remap);

	box_open(b, TRACKER_UFFD);
	box_wait(&b->shared->ready, 1);
	box_watch(b, pid, b->shared->area, 64);
	for (int n = 0; n < 8; n++) {
		if (n > 0)
			box_step(b, n);
		box_round(b);
		expect_pages(b, n, expected[n]);
	}
	box_finish(b);
	/* 1 has the zero page, 0 and 3 are gone */
	expect_pages(b, 8, "..x.xxxxxxxxxxxxx.......xxxxxxxx................xxxxxxxxxxxxxxxx");
}

/* There and back again: the kernel merges it with both neighbours, and forgets
 * that they are registered, but leaves their marks. */
static int merge(struct shared *s)
{
	char *area = map(NULL, 64, PROT_READ | PROT_WRITE);

	s->area = (uintptr_t)area;
	memset(area, 'a', 24ul * PAGE);
	step(s, 1);
	(void)mremap(area + 8ul * PAGE, 8ul * PAGE, 8ul * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		     area + 40ul * PAGE);
	step(s, 2);
	(void)mremap(area + 40ul * PAGE, 8ul * PAGE, 8ul * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		     area + 8ul * PAGE);
	area[0] = 'b';
	step(s, 3);
	area[0] = 'c';
	area[20ul * PAGE] = 'c';
	step(s, 4);
	for (;;)
		(void)pause();
	return 0;
}

static void merged_mappings_keep_no_old_marks(void **state)
{
	static const char *const expected[] = {
		"xxxxxxxxxxxxxxxxxxxxxxxx........................................",
		"........................................xxxxxxxx................",
		NULL,	/* how much is forgotten is the kernel's choice */
		"x...................x...........................................",
	};
	struct box *b = *state;
	pid_t pid = box_start(b, merge);

	box_open(b, TRACKER_UFFD);
	box_wait(&b->shared->ready, 1);
	box_watch(b, pid, b->shared->area, 64);
	for (int n = 0; n < 4; n++) {
		if (n > 0)
			box_step(b, n);
		box_round(b);
		if (expected[n])
			expect_pages(b, n, expected[n]);
	}
	box_finish(b);
}

/* Terabytes that are reserved cost neither us nor the process anything. */
static int reserve(struct shared *s)
{
	char *area = mmap(NULL, 1ul << 40, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (area == MAP_FAILED)
		return 94;
	(void)madvise(area, 1ul << 40, MADV_NOHUGEPAGE);
	s->area = (uintptr_t)area;
	area[100ul * PAGE] = 1;
	step(s, 1);
	area[200ul * PAGE] = 1;
	step(s, 2);
	for (;;)
		(void)pause();
	return 0;
}

static void reserved_memory_gets_no_page_tables(void **state)
{
	struct box *b = *state;
	pid_t pid = box_start(b, reserve);
	long before;

	box_open(b, TRACKER_UFFD);
	box_wait(&b->shared->ready, 1);
	box_watch(b, pid, b->shared->area, 1024);
	before = status_of(pid, "\nVmPTE:");
	box_round(b);
	assert_int_equal(b->reported, 1);
	box_step(b, 1);
	box_round(b);
	assert_int_equal(b->reported, 1);
	assert_true(b->bitmap[200]);
	assert_in_range(status_of(pid, "\nVmPTE:"), before, before + 16);
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

static void wait_name(pid_t pid, const char *name)
{
	for (uint64_t end_us = clock_us() + 5 * SECOND_US; clock_us() < end_us; (void)sched_yield()) {
		CLEANUP(freep) char *text = text_of(pid, "comm");

		if (!strncmp(text, name, strlen(name)))
			return;
	}
	fail_msg("process %d never became %s", pid, name);
}

static void another_program_is_another_generation(void **state)
{
	struct box *b = *state;
	pid_t pid = box_start(b, execute);
	uint64_t before;

	box_open(b, TRACKER_UFFD);
	box_wait(&b->shared->ready, 1);
	box_watch(b, pid, b->shared->area, 16);
	box_round(b);
	assert_int_equal(b->reported, 16);
	before = b->generation;
	box_round(b);
	assert_int_equal(b->generation, before);
	b->shared->go = 1;
	wait_name(pid, "sleep");
	(void)usleep(20000);
	box_round(b);			/* whole, not followed yet */
	assert_true(b->generation > before);
	assert_true(b->total > 5);
	box_round(b);			/* followed */
	assert_true(b->total > 5);
	before = b->generation;
	box_round(b);
	assert_true(b->total < 5);
	b->generation = before;
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
	wait_name(b->shared->child, "sleep");
	for (int i = 0; i < 4; i++)
		box_round(b);
	box_finish(b);
}

#define LARGE (UINT64_C(512) << 20)	/* walked in parts, at the freeze */

/* More holes in the last part than a thread has room for. */
static bool in_large(size_t page)
{
	return page % (page < LARGE / PAGE * 3 / 4 ? 64 : 4) == 0;
}

static int write_large(struct shared *s)
{
	char *area = map(NULL, LARGE / PAGE, PROT_READ | PROT_WRITE);

	s->area = (uintptr_t)area;
	for (size_t i = 0; i < LARGE / PAGE; i++)
		if (in_large(i))
			area[i * PAGE] = (char)(i | 1);
	step(s, 1);
	for (size_t i = 0; i < LARGE / PAGE; i += 192)
		area[i * PAGE + 1] = (char)(i | 1);
	if (madvise(area + LARGE / 2 - 512 * PAGE, 2048ul * PAGE, MADV_DONTNEED) < 0)
		return 1;
	step(s, 2);
	for (;;)
		(void)pause();
	return 0;
}

static void a_large_mapping_is_whole_at_the_freeze(void **state)
{
	struct box *b = *state;
	pid_t pid = box_start(b, write_large);
	size_t expected = 0;

	box_open(b, TRACKER_UFFD);
	box_wait(&b->shared->ready, 1);
	box_round(b);
	box_step(b, 1);
	box_watch(b, pid, b->shared->area + LARGE / 2, 1 << 16);
	box_finish(b);
	for (size_t i = LARGE / PAGE / 2; i < LARGE / PAGE; i++) {
		bool there = i >= LARGE / PAGE / 2 + 1536 && (in_large(i) || i % 192 == 0);

		assert_int_equal(b->bitmap[i - LARGE / PAGE / 2], there);
		expected += there;
	}
	assert_true(b->total > expected);
}

static int with_stacks(struct shared *s);

static void *stand(void *arg)
{
	struct shared *s = arg;
	volatile char local = 't';

	__atomic_store_n(&s->value[0], (long)(uintptr_t)&local, __ATOMIC_SEQ_CST);
	for (;;)
		(void)pause();
	return NULL;
}

static int with_stacks(struct shared *s)
{
	char *guard = map(NULL, 8, PROT_READ | PROT_WRITE);
	pthread_t thread;

	memset(guard, 'g', 8ul * PAGE);
	s->value[1] = madvise(guard + 2ul * PAGE, 2ul * PAGE, 102 /* MADV_GUARD_INSTALL */);
	s->area = (uintptr_t)guard;
	if (pthread_create(&thread, NULL, stand, s) != 0)
		return 97;
	while (!__atomic_load_n(&s->value[0], __ATOMIC_SEQ_CST))
		(void)sched_yield();
	(void)usleep(20000);
	s->ready = 1;
	for (;;)
		(void)pause();
	return 0;
}

static int find_nothing(void *ctx, const struct tracker_process *p, const struct tracker_range *ranges,
			size_t n, struct error *err)
{
	(void)ctx, (void)p, (void)ranges, (void)n, (void)err;
	return 0;
}

static int find_in(void *ctx, const struct tracker_process *p, const struct tracker_range *ranges,
		   size_t n, struct error *err)
{
	struct box *b = ctx;

	(void)p, (void)err;
	for (size_t i = 0; i < n; i++)
		for (uint64_t at = ranges[i].start; at < ranges[i].end; at += PAGE)
			if (at >= b->from && at < b->to)
				b->bitmap[(at - b->from) / PAGE] = true;
	return 0;
}

static void stacks_in_use_and_guards_stay_with_criu(void **state)
{
	static const struct tracker_final finals[] = {
		{ find_nothing, find_in, find_nothing },
		{ find_nothing, find_nothing, find_in },
	};
	struct box *b = *state;
	pid_t pid = box_start(b, with_stacks);
	uint64_t stack;

	box_open(b, TRACKER_UFFD);
	box_wait(&b->shared->ready, 1);
	box_round(b);
	assert_int_equal(tracker_final(b->t, &finals[0], b, &b->err), -EBUSY);
	box_finish(b);
	stack = (uint64_t)b->shared->value[0] / PAGE * PAGE;
	for (size_t i = 0; i < 2; i++) {
		box_watch(b, pid, stack - 64ul * PAGE, 128);
		memset(b->bitmap, 0, sizeof(b->bitmap));
		check(b, tracker_final(b->t, &finals[i], b, &b->err));
		assert_false(b->bitmap[63]);
		assert_false(b->bitmap[64]);
		assert_int_equal(b->bitmap[20], i);	/* carried, not populated */
		if (b->shared->value[1] < 0)
			continue;	/* a kernel without guards has none to leave out */
		box_watch(b, pid, b->shared->area, 8);
		memset(b->bitmap, 0, sizeof(b->bitmap));
		check(b, tracker_final(b->t, &finals[i], b, &b->err));
		for (size_t k = 0; k < 8; k++)
			assert_int_equal(b->bitmap[k], k < 2 || k >= 4);
	}
}

/* The kernel says itself whether it keeps soft-dirty bits: a page that was just
 * written has one. */
static bool kernel_has_soft_dirty(void)
{
	CLEANUP(fd_closep) int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	char *page = map(NULL, 1, PROT_READ | PROT_WRITE);
	uint64_t entry = 0;

	*(volatile char *)page = 1;
	assert_int_equal(pread(fd, &entry, sizeof(entry), (off_t)((uintptr_t)page / PAGE * 8)), 8);
	(void)munmap(page, PAGE);
	return entry >> 55 & 1;
}

static void soft_dirty_is_there_or_refused(void **state)
{
	struct box *b = *state;
	pid_t pid = box_start(b, write_known);

	if (kernel_has_soft_dirty()) {
		follow_known(b, pid, TRACKER_SOFT_DIRTY);
		return;
	}
	assert_int_equal(tracker_open(b->cg, TRACKER_SOFT_DIRTY, &b->t, &b->err), -EOPNOTSUPP);
	assert_null(b->t);
	assert_non_null(strstr(b->err.msg, "soft-dirty"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOX_TEST(exactly_what_was_written_is_handed_out),
		BOX_TEST(a_confined_process_is_followed_as_well),
		BOX_TEST(all_traces_vanish_with_the_tracker),
		BOX_TEST(waiting_system_calls_wait_on),
		BOX_TEST(signals_arrive_once),
		BOX_TEST(mappings_that_become_others_come_whole),
		BOX_TEST(merged_mappings_keep_no_old_marks),
		BOX_TEST(reserved_memory_gets_no_page_tables),
		BOX_TEST(another_program_is_another_generation),
		BOX_TEST(a_process_that_does_not_stop_comes_whole),
		BOX_TEST(a_large_mapping_is_whole_at_the_freeze),
		BOX_TEST(stacks_in_use_and_guards_stay_with_criu),
		BOX_TEST(soft_dirty_is_there_or_refused),
	};

	if (geteuid() != 0)
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
