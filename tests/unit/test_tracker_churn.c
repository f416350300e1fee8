/*
 * Nothing is missed: processes change their memory in every way and as fast as
 * they can, while rounds are made; then they are frozen, and each page of the
 * shadow must be what they have.
 */
#include "tests/unit/tracker_fixture.h"

#include <pthread.h>

enum { CHAOS = 512, THREADS = 3 };

static unsigned next_random(unsigned *seed)
{
	*seed = *seed * 1103515245u + 12345u;
	return *seed >> 8;
}

static void scribble(char *page, unsigned *seed)
{
	for (size_t i = 0; i < PAGE; i += 512)
		page[i + next_random(seed) % 512] = (char)next_random(seed);
}

/* One that fails may have unmapped its target before, or moved a part. */
static void move(char *area, bool *writable, size_t from, size_t to, size_t n)
{
	if (mremap(area + from * PAGE, n * PAGE, n * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		   area + to * PAGE) == MAP_FAILED) {
		(void)munmap(area + from * PAGE, n * PAGE);
		(void)munmap(area + to * PAGE, n * PAGE);
		memset(writable + from, 0, n);
	}
	memcpy(writable + to, writable + from, n);
	memset(writable + from, 0, n);
}

static void change(char *area, bool *writable, unsigned *seed)
{
	size_t n = 1 + next_random(seed) % 16, at = next_random(seed) % (CHAOS / 2 - n);
	size_t to = CHAOS / 2 + next_random(seed) % (CHAOS / 2 - n);
	char *p = area + at * PAGE;

	switch (next_random(seed) % 24) {
	case 0:
		(void)munmap(p, n * PAGE);
		memset(writable + at, 0, n);
		return;
	case 1:
		(void)mprotect(p, n * PAGE, PROT_NONE);
		memset(writable + at, 0, n);
		return;
	case 2:
		(void)mprotect(p, n * PAGE, PROT_READ);
		memset(writable + at, 0, n);
		return;
	case 3:
		for (size_t i = 0; i < n; i++)
			writable[at + i] = mprotect(p + i * PAGE, PAGE, PROT_READ | PROT_WRITE) == 0;
		return;
	case 4:
		(void)madvise(p, n * PAGE, MADV_DONTNEED);
		return;
	case 5:
		(void)madvise(p, n * PAGE, MADV_FREE);
		return;
	case 6:
	case 7:		/* to the other half and back, over whatever is there */
		move(area, writable, at, to, n);
		return;
	case 8:
	case 9:
		move(area, writable, to, at, n);
		return;
	case 10:
	case 11:
		(void)map(p, n, PROT_READ | PROT_WRITE);
		memset(writable + at, 1, n);
		return;
	case 12:
		(void)map(area + to * PAGE, n, PROT_READ | PROT_WRITE);
		memset(writable + to, 1, n);
		return;
	default:
		for (size_t i = 0; i < n; i++) {
			if (writable[at + i])
				scribble(p + i * PAGE, seed);
			if (writable[to + i])
				scribble(area + (to + i) * PAGE, seed);
		}
	}
}

static void churn(struct shared *s, unsigned seed, bool forks)
{
	static __thread bool writable[CHAOS];
	char *area = map(NULL, CHAOS, PROT_READ | PROT_WRITE);

	memset(writable, 1, sizeof(writable));
	while (!s->stop) {
		for (int i = 0; i < 50; i++)
			change(area, writable, &seed);
		if (forks && next_random(&seed) % 4 == 0) {
			pid_t pid = fork();

			if (pid == 0) {
				bool stays = next_random(&seed) % 4 == 0;

				if (next_random(&seed) % 8 == 0)
					(void)execl("/bin/true", "true", (char *)NULL);
				for (int i = 0; i < (stays ? 2000 : 100); i++)
					change(area, writable, &seed);
				_exit(0);
			}
		}
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		s->done++;
	}
}

static void *churn_thread(void *arg)
{
	struct shared *s = arg;

	churn(s, (unsigned)__atomic_add_fetch(&s->value[0], 1, __ATOMIC_SEQ_CST), false);
	return NULL;
}

static int churn_threads(struct shared *s)
{
	pthread_t thread;

	for (size_t i = 0; i < THREADS; i++)
		if (pthread_create(&thread, NULL, churn_thread, s) != 0)
			return 98;
	churn(s, 77, false);
	return 0;
}

static int churn_forks(struct shared *s)
{
	churn(s, (unsigned)getpid(), true);
	return 0;
}

static void shadow_clear(struct box *b)
{
	for (size_t i = 0; i < b->size; i++)
		free(b->pages[i].data);
	memset(b->pages, 0, b->size * sizeof(*b->pages));
	b->frozen = false;
}

/* Again and again: rounds while it runs, freeze, compare, thaw. */
static void churn_and_compare(struct box *b, enum tracker_kind kind)
{
	int done = 0;

	for (int i = 0; i < 12; i++) {
		box_open(b, kind);
		for (int round = 0; round < 1 + i % 6; round++) {
			uint64_t end_us = clock_us() + 5 * SECOND_US;

			box_round(b);
			for (done = b->shared->done; b->shared->done == done && clock_us() < end_us;)
				(void)sched_yield();
		}
		box_finish(b);
		print_message("%zu pages compared\n", b->total);
		assert_true(b->total > 10);
		tracker_free(b->t);
		b->t = NULL;
		check(b, cgroup_thaw(b->cg, &b->err));
		shadow_clear(b);
	}
}

static void nothing_is_missed_of_threads(void **state)
{
	struct box *b = *state;

	(void)box_start(b, churn_threads);
	churn_and_compare(b, TRACKER_UFFD);
}

static void nothing_is_missed_of_a_tree_that_forks(void **state)
{
	struct box *b = *state;

	(void)box_start(b, churn_forks);
	(void)box_start(b, churn_forks);
	churn_and_compare(b, TRACKER_UFFD);
}

static void nothing_is_missed_without_tracking(void **state)
{
	struct box *b = *state;

	(void)box_start(b, churn_threads);
	churn_and_compare(b, TRACKER_NONE);
	assert_string_equal(tracker_kind_name(TRACKER_NONE), "none");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOX_TEST(nothing_is_missed_of_threads),
		BOX_TEST(nothing_is_missed_of_a_tree_that_forks),
		BOX_TEST(nothing_is_missed_without_tracking),
	};

	if (geteuid() != 0)
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
