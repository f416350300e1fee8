/*
 * Real processes in a real cgroup. Steps are agreed upon over shared memory, so
 * that what was written between two rounds is known exactly.
 */
#include "tests/unit/tracker_fixture.h"

#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

enum { AREA = 4096, KNOWN = 1000 };

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
		BOX_TEST(a_large_mapping_is_whole_at_the_freeze),
		BOX_TEST(soft_dirty_is_there_or_refused),
	};

	if (geteuid() != 0)
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
