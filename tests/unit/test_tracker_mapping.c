/*
 * Mappings of a followed process that move, merge, go, are only reserved, or are
 * stacks and guards: which of their pages are handed out, in a round and at the freeze.
 */
#include "tests/unit/tracker_fixture.h"

#include <pthread.h>

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOX_TEST(mappings_that_become_others_come_whole),
		BOX_TEST(merged_mappings_keep_no_old_marks),
		BOX_TEST(reserved_memory_gets_no_page_tables),
		BOX_TEST(stacks_in_use_and_guards_stay_with_criu),
	};

	if (geteuid() != 0)
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
