#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/clock.h"
#include "migrate/memory/store.h"
#include "proto/checksum.h"

#define MAX_PAGES 4096u
#define BASE 0x7f0000000000u

static struct error err;

/* Each page of a buffer starts with its number. */
static void number(uint8_t *pages, uint64_t first, size_t n)
{
	memset(pages, 0x55, n * STORE_PAGE);
	for (size_t i = 0; i < n; i++)
		memcpy(pages + i * STORE_PAGE, &(uint64_t){ first + i }, 8);
}

static void put(struct store *s, uint32_t pid, uint64_t page, uint64_t first, size_t n)
{
	CLEANUP(freep) uint8_t *pages = malloc(n * STORE_PAGE);

	assert_non_null(pages);
	number(pages, first, n);
	if (store_put(s, pid, BASE + page * STORE_PAGE, pages, n, &err) < 0)
		fail_msg("%s", err.msg);
}

static void zero(struct store *s, uint32_t pid, uint64_t page, uint64_t n)
{
	assert_int_equal(store_put_zero(s, pid, BASE + page * STORE_PAGE, n, &err), 0);
}

static int populate(struct store *s, uint32_t pid, uint64_t from, uint64_t to)
{
	return store_populated(s, pid, BASE + from * STORE_PAGE, BASE + to * STORE_PAGE, &err);
}

static struct store *make(void)
{
	struct store *s;

	assert_int_equal(store_new(MAX_PAGES, &s, &err), 0);
	return s;
}

/* What a walk finds, page by page. */
struct found {
	const struct store *store;
	uint32_t pid;
	uint64_t numbers[3 * MAX_PAGES];	/* 0: no page */
	uint64_t end;			/* for the order */
	size_t n, n_extents;
};

static const void *page_at(const struct store *s, uint64_t slot)
{
	static uint8_t room[STORE_PAGE];
	const void *data;

	if (store_read(s, slot, 1, room, &data, &err) < 0)
		fail_msg("%s", err.msg);
	return data;
}

static int note(void *ctx, uint32_t pid, uint64_t address, uint64_t n, uint64_t slot,
		struct error *e)
{
	struct found *f = ctx;

	(void)e;
	if (pid != f->pid)
		return 0;
	assert_true(address >= f->end && n > 0);
	assert_true(slot + n <= store_slots(f->store));
	f->end = address + n * STORE_PAGE;
	f->n_extents++;
	for (uint64_t i = 0; i < n; i++, f->n++)
		memcpy(&f->numbers[(address - BASE) / STORE_PAGE + i], page_at(f->store, slot + i), 8);
	return 0;
}

static struct found *walk(const struct store *s, uint32_t pid)
{
	static struct found f;

	f = (struct found){ .store = s, .pid = pid };
	assert_int_equal(store_walk(s, note, &f, &err), 0);
	return &f;
}

static void later_rounds_win(void **state)
{
	CLEANUP(store_freep) struct store *s = make();
	struct found *f;

	(void)state;
	put(s, 7, 0, 100, 600);
	put(s, 8, 0, 5000, 3);
	put(s, 7, 510, 9000, 4);
	assert_int_equal(store_stats(s).pages, 603);
	assert_int_equal(store_stats(s).overwritten, 4);
	assert_int_equal(populate(s, 7, 0, 600), 0);
	assert_int_equal(populate(s, 8, 0, 3), 0);
	assert_int_equal(store_walk(s, note, NULL, &err), -EINVAL);
	assert_int_equal(store_seal(s, &err), 0);
	f = walk(s, 7);
	assert_int_equal(f->n, 600);
	assert_int_equal(f->n_extents, 1);
	for (uint64_t i = 0; i < 600; i++)
		assert_int_equal(f->numbers[i], i >= 510 && i < 514 ? 9000 + i - 510 : 100 + i);
	assert_int_equal(walk(s, 8)->n, 3);
	assert_int_equal(store_put_zero(s, 7, BASE, 1, &err), -EINVAL);
}

static void slots_come_back(void **state)
{
	CLEANUP(store_freep) struct store *s = make();

	(void)state;
	for (int round = 0; round < 20; round++) {
		put(s, 1, 0, 1, MAX_PAGES);
		if (round % 2)
			zero(s, 1, 0, MAX_PAGES);
		else
			assert_int_equal(store_drop(s, 1, 0, 1, &err), 0);
		assert_int_equal(store_stats(s).pages, 0);
	}
	put(s, 2, 10, 77, MAX_PAGES);
	assert_int_equal(store_slots(s), MAX_PAGES);
	assert_int_equal(store_put(s, 3, BASE, (uint8_t[STORE_PAGE]){ 1 }, 1, &err), -ENOSPC);
	assert_int_equal(populate(s, 2, 10, 10 + MAX_PAGES), 0);
	assert_int_equal(store_seal(s, &err), 0);
	for (uint64_t i = 0; i < MAX_PAGES; i++)
		assert_int_equal(walk(s, 2)->numbers[10 + i], 77 + i);
}

static void only_what_is_populated(void **state)
{
	CLEANUP(store_freep) struct store *s = make();
	struct found *f;

	(void)state;
	put(s, 1, 0, 1, 100);
	zero(s, 1, 100, 2000);		/* whole chunks too */
	zero(s, 1, 50, 2);
	put(s, 1, 1500, 4000, 1);
	put(s, 9, 0, 1, 5);
	assert_int_equal(populate(s, 1, 10, 60), 0);
	assert_int_equal(populate(s, 1, 5, 8), -EPROTO);	/* order */
	assert_int_equal(populate(s, 1, 90, 2100), 0);
	assert_int_equal(populate(s, 1, 2100, 2101), -EPROTO);
	assert_non_null(strstr(err.msg, "0x7f0000834000 of process 1 never came"));
	assert_int_equal(populate(s, 5, 0, 1), -EPROTO);
	assert_int_equal(store_seal(s, &err), 0);
	f = walk(s, 1);
	for (uint64_t i = 0; i < 2100; i++)
		assert_int_equal(f->numbers[i],
				 i == 1500 ? 4000 :
				 (i >= 10 && i < 50) || (i >= 52 && i < 60) || (i >= 90 && i < 100) ?
					     i + 1 : 0);
	assert_int_equal(f->n, 40 + 8 + 10 + 1);
	assert_int_equal(store_stats(s).pages, f->n);
	assert_int_equal(walk(s, 9)->n, 0);
}

static void hashes(void **state)
{
	CLEANUP(store_freep) struct store *one = make();
	CLEANUP(store_freep) struct store *two = make();
	CLEANUP(checksum_freep) struct checksum *sum = NULL;
	uint8_t page[STORE_PAGE];
	uint64_t a, b, nothing;

	(void)state;
	put(one, 1, 0, 1, 10);
	assert_int_equal(store_put(one, 1, BASE + 5 * STORE_PAGE,
				   (uint8_t[STORE_PAGE]){ 0 }, 1, &err), 0);
	put(two, 1, 6, 7, 4);
	put(two, 1, 0, 1, 5);
	zero(two, 1, 5, 1);
	assert_int_equal(populate(one, 1, 0, 10), 0);
	assert_int_equal(populate(two, 1, 0, 10), 0);
	assert_int_equal(store_seal(one, &err), 0);
	assert_int_equal(store_seal(two, &err), 0);
	assert_int_equal(store_hash(one, 1, &a, &err), 0);
	assert_int_equal(store_hash(two, 1, &b, &err), 0);
	assert_int_equal(a, b);
	assert_int_equal(checksum_new(&sum, &err), 0);
	for (uint64_t i = 0; i < 10; i++) {
		number(page, 1 + i, 1);
		if (i != 5)
			store_hash_page(sum, BASE + i * STORE_PAGE, page);
	}
	assert_int_equal(checksum_value(sum), a);
	assert_int_equal(store_hash(one, 2, &nothing, &err), 0);
	assert_int_not_equal(nothing, a);
	checksum_reset(sum);
	number(page, 1, 1);
	store_hash_page(sum, BASE + STORE_PAGE, page);	/* elsewhere */
	assert_int_not_equal(checksum_value(sum), a);
}

static void strangers(void **state)
{
	CLEANUP(store_freep) struct store *s = make();
	static uint8_t page[STORE_PAGE];
	struct store *none;

	(void)state;
	assert_int_equal(store_put(s, 1, BASE + 1, page, 1, &err), -EPROTO);
	assert_int_equal(store_put(s, 1, 1ull << 57, page, 1, &err), -EPROTO);
	assert_int_equal(store_put(s, 1, UINT64_MAX - 4095, page, 1, &err), -EPROTO);
	assert_int_equal(store_put(s, 1, (1ull << 57) - STORE_PAGE, page, 2, &err), -EPROTO);
	assert_int_equal(store_put(s, 1, 0, page, 0, &err), -EPROTO);
	assert_int_equal(store_put_zero(s, 1, 0, UINT64_MAX, &err), -EPROTO);
	assert_int_equal(store_put_zero(s, 1, 0, 1ull << 45, &err), -ENOSPC);
	assert_int_equal(store_populated(s, 1, STORE_PAGE, 0, &err), -EPROTO);
	assert_int_equal(store_populated(s, 1, 0, 0, &err), -EPROTO);
	assert_int_equal(store_populated(s, 1, 0, 1, &err), -EPROTO);
	assert_int_equal(store_new(0, &none, &err), -EINVAL);
	assert_int_equal(store_new(UINT64_MAX, &none, &err), -EINVAL);
}

static void many_spaces(void **state)
{
	CLEANUP(store_freep) struct store *s = make();
	uint8_t page[STORE_PAGE];

	(void)state;
	for (uint32_t i = 0; i < 500; i++) {
		uint32_t pid = (i * 7919u) % 1000u;

		number(page, pid + 1, 1);
		assert_int_equal(store_put(s, pid, BASE + i * 5000ull * STORE_PAGE, page, 1, &err), 0);
		assert_int_equal(store_put(s, pid, BASE, page, 1, &err), 0);
		assert_int_equal(populate(s, pid, 0, 1), 0);
	}
	assert_int_equal(store_seal(s, &err), 0);
	for (uint32_t i = 0; i < 500; i++) {
		uint32_t pid = (i * 7919u) % 1000u;

		assert_int_equal(walk(s, pid)->n, 1);
		assert_int_equal(walk(s, pid)->numbers[0], pid + 1);
	}
}

/* Not judged: what one sees is the machine. */
static void speed(void **state)
{
	const size_t piece = 64, total = 131072;
	static uint8_t pages[64 * STORE_PAGE];
	struct store *s;
	uint64_t began;

	(void)state;
	assert_int_equal(store_new(total, &s, &err), 0);
	number(pages, 1, piece);
	for (int round = 0; round < 2; round++) {
		began = clock_us();
		for (size_t i = 0; i < total; i += piece)
			assert_int_equal(store_put(s, 1, BASE + i * STORE_PAGE, pages, piece, &err), 0);
		print_message("%s: %.2f GB/s\n", round ? "again" : "new",
			      (double)(total * STORE_PAGE) / 1e3 / (double)(clock_us() - began));
	}
	began = clock_us();
	assert_int_equal(populate(s, 1, 0, total), 0);
	assert_int_equal(store_seal(s, &err), 0);
	print_message("populated and seal of %zu pages: %llu us\n", total,
		      (unsigned long long)(clock_us() - began));
	store_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(later_rounds_win),
		cmocka_unit_test(slots_come_back),
		cmocka_unit_test(only_what_is_populated),
		cmocka_unit_test(hashes),
		cmocka_unit_test(strangers),
		cmocka_unit_test(many_spaces),
		cmocka_unit_test(speed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
