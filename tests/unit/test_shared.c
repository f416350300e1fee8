#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>

#include "tests/unit/shared_fixture.h"

/* ---- what is found ---- */

static void make_all_kinds(struct steps *s)
{
	int small = new_memfd("small", SHARED_MIN_BYTES - 1), mapped = new_memfd("mapped", SIZE);
	int open_only = new_memfd("open", SIZE), id, detached;
	char *at;

	fill(map(-1, SIZE), SIZE, 1);
	fill(map(mapped, SIZE), SIZE, 2);
	MUST(close(mapped) == 0);
	fill(map(small, SHARED_MIN_BYTES), SHARED_MIN_BYTES - 64, 3);
	MUST(pwrite(open_only, "four", 4, 40960) == 4);
	id = shmget(IPC_PRIVATE, SIZE, IPC_CREAT | 0600);
	detached = shmget(IPC_PRIVATE, SIZE, IPC_CREAT | 0600);
	MUST(id >= 0 && detached >= 0);
	fill(shmat(id, NULL, 0), SIZE, 5);
	at = shmat(detached, NULL, 0);
	fill(at, SIZE, 6);
	MUST(shmdt(at) == 0);
	done(s, 1);
	done(s, 2);
}

static void every_kind_is_found_once(void **state)
{
	struct box *b = *state;

	start(b, make_all_kinds);
	live_round(b);
	assert_int_equal(b->announced, 5);
	assert_int_equal(b->sent, 4 * PAGES + 1);
	live_round(b);
	assert_int_equal(b->sent, 0);
	last_round(b);
	assert_int_equal(b->hashed, 5);
	assert_int_equal(b->sent, 0);
	next(b);
}

/* ---- what nobody tells of ---- */

static void write_unseen(struct steps *s)
{
	int fd = new_memfd("unseen", SIZE);
	char *p = map(-1, SIZE), *other, *twice;
	pid_t child;

	fill(p, SIZE, 1);
	other = map(fd, SIZE);
	fill(other, SIZE, 2);
	done(s, 1);
	/* a process that reads, so that its page table lets it write, writes, and is gone */
	child = fork();
	if (child == 0) {
		MUST(p[7 * PAGE] || !p[7 * PAGE + 1]);
		p[7 * PAGE] ^= 1;
		_exit(0);
	}
	MUST(child > 0 && waitpid(child, NULL, 0) == child);
	/* a second mapping that is gone */
	twice = map(fd, SIZE);
	twice[9 * PAGE + 1] ^= 1;
	MUST(munmap(twice, SIZE) == 0);
	MUST(pwrite(fd, "written", 7, 100 * PAGE + 3) == 7);
	/* made a hole, and read again: a page of zeros that nobody has written */
	MUST(madvise(other + 50 * PAGE, PAGE, MADV_REMOVE) == 0 && other[50 * PAGE] == 0);
	MUST(madvise(p + 200 * PAGE, 300 * PAGE, MADV_REMOVE) == 0);
	p[300 * PAGE] = 1;
	done(s, 2);
}

static void what_nobody_tells_of_is_found(void **state)
{
	struct box *b = *state;

	start(b, write_unseen);
	live_round(b);
	live_round(b);
	assert_int_equal(b->sent, 0);
	next(b);
	last_round(b);
	assert_int_equal(b->hashed, 2);
	/* one by the child; 299 zero and one page; and 9, 50, 100 of the memfd */
	assert_int_equal(b->sent, 1 + 300 + 3);
}

/* ---- sizes ---- */

static void change_sizes(struct steps *s)
{
	int grows = new_memfd("grows", SIZE), shrinks = new_memfd("shrinks", SIZE), odd = new_memfd("odd", SIZE);
	int holes = new_memfd("holes", (off_t)1 << 40);
	char *at = map(odd, SIZE);

	fill(map(grows, SIZE), SIZE, 1);
	fill(map(shrinks, SIZE), SIZE, 2);
	fill(at, SIZE, 3);
	MUST(pwrite(holes, "far", 3, (off_t)1 << 39) == 3);
	done(s, 1);
	MUST(ftruncate(grows, 2 * SIZE) == 0 && pwrite(grows, "new", 3, SIZE + 5 * PAGE) == 3);
	MUST(ftruncate(shrinks, SIZE / 2) == 0);
	MUST(ftruncate(odd, SIZE / 2 + 100) == 0);
	MUST(pwrite(holes, "near", 4, 12345678) == 4);
	done(s, 2);
	MUST(ftruncate(shrinks, SIZE) == 0);	/* its second half is zero now */
	at[SIZE / 2 + 2000] = 7;		/* behind the end, where only a mapping reaches */
	MUST(ftruncate(odd, SIZE / 2 + 3000) == 0);
	MUST(fallocate(holes, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)1 << 40) == 0);
	done(s, 3);
}

static void sizes_change(void **state)
{
	struct box *b = *state;

	start(b, change_sizes);
	live_round(b);
	assert_int_equal(b->announced, 4);
	next(b);
	live_round(b);
	assert_int_equal(b->announced, 7);
	next(b);
	last_round(b);
	assert_int_equal(b->announced, 9);
	assert_int_equal(b->hashed, 4);
	/* two pages of "holes" are none now, the cut page of "odd" has more in it */
	assert_int_equal(b->sent, 3);
}

/* ---- what goes ---- */

static void let_go(struct steps *s)
{
	int stays = new_memfd("stays", SIZE), goes = new_memfd("goes", SIZE);

	MUST(pwrite(stays, "stays", 5, 0) == 5 && pwrite(goes, "goes", 4, 0) == 4);
	done(s, 1);
	MUST(close(goes) == 0);
	done(s, 2);
	MUST(new_memfd("late", SIZE) >= 0);
	done(s, 3);
}

static void what_goes_is_forgotten(void **state)
{
	struct box *b = *state;

	start(b, let_go);
	live_round(b);
	next(b);
	live_round(b);
	assert_int_equal(b->gone, 1);
	next(b);
	last_round(b);			/* what is new at the freeze is CRIU's */
	assert_int_equal(b->hashed, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_kind_is_found_once, setup, teardown),
		cmocka_unit_test_setup_teardown(what_nobody_tells_of_is_found, setup, teardown),
		cmocka_unit_test_setup_teardown(sizes_change, setup, teardown),
		cmocka_unit_test_setup_teardown(what_goes_is_forgotten, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
