#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/cleanup.h"
#include "migrate/memory/gaps.h"
#include "migrate/memory/store.h"

#define PAGES 200u

/* The same, page by page: slot + 1, or 0. */
struct model {
	uint64_t slots[PAGES];
	uint64_t released, expected;		/* sums over slots */
};

static struct error err;

static void release(void *ctx, uint64_t slot, uint64_t n)
{
	struct model *m = ctx;

	for (uint64_t i = 0; i < n; i++)
		m->released += (slot + i + 1) * (slot + i + 7);
}

static void model_drop(struct model *m, size_t page)
{
	uint64_t slot = m->slots[page];

	if (slot)
		m->expected += slot * (slot + 6);
	m->slots[page] = 0;
}

static void compare(const struct gaps *g, const struct model *m)
{
	uint64_t end = 0;

	for (size_t i = g->first; i < g->n; i++) {
		assert_true(g->list[i].address >= end && g->list[i].n_pages > 0);
		end = g->list[i].address + g->list[i].n_pages * STORE_PAGE;
	}
	for (size_t p = 0; p < PAGES; p++) {
		uint64_t address = p * STORE_PAGE + 77;
		const struct gap *gap = gaps_find(g, address);
		uint64_t slot = gap ? gap->slot + (address - gap->address) / STORE_PAGE + 1 : 0;

		assert_int_equal(slot, m->slots[p]);
	}
	assert_int_equal(m->released, m->expected);
}

static void step(struct gaps *g, struct model *m)
{
	size_t from = (size_t)random() % PAGES, n = 1 + (size_t)random() % 20, to;

	if (from + n > PAGES)
		n = PAGES - from;
	if (random() % 3) {
		assert_int_equal(gaps_remove(g, from * STORE_PAGE, (from + n) * STORE_PAGE, release,
					     m, &err), 0);
		for (size_t i = from; i < from + n; i++)
			model_drop(m, i);
		return;
	}
	to = (size_t)random() % (PAGES - n + 1);
	if (to < from + n && from < to + n)
		return;				/* mremap(2) refuses that */
	assert_int_equal(gaps_move(g, from * STORE_PAGE, to * STORE_PAGE, n * STORE_PAGE, release,
				   m, &err), 0);
	for (size_t i = 0; i < n; i++) {
		model_drop(m, to + i);
		m->slots[to + i] = m->slots[from + i];
		m->slots[from + i] = 0;
	}
}

static void like_a_model(void **state)
{
	(void)state;
	srandom(1);
	for (int round = 0; round < 300; round++) {
		struct gaps g = { 0 }, copy;
		struct model m = { 0 };
		uint64_t slot = 0;

		for (size_t p = 0; p < PAGES;) {
			size_t n = 1 + (size_t)random() % 9;

			n = n < PAGES - p ? n : PAGES - p;
			if (random() % 2) {
				assert_int_equal(gaps_append(&g, p * STORE_PAGE, n, slot, &err), 0);
				for (size_t i = 0; i < n; i++)
					m.slots[p + i] = slot + i + 1;
				slot += n + (uint64_t)random() % 3;
			}
			p += n;
		}
		compare(&g, &m);
		for (int i = 0; i < 30; i++) {
			step(&g, &m);
			compare(&g, &m);
		}
		assert_int_equal(gaps_copy(&g, &copy, &err), 0);
		compare(&copy, &m);
		gaps_clear(&g);
		gaps_clear(&copy);
	}
}

static void from_the_front(void **state)
{
	struct model m = { 0 };
	struct gaps g = { 0 };

	(void)state;
	assert_null(gaps_first(&g));
	assert_null(gaps_find(&g, 0));
	assert_int_equal(gaps_append(&g, 10 * STORE_PAGE, 3, 5, &err), 0);
	assert_int_equal(gaps_append(&g, 20 * STORE_PAGE, 1, 9, &err), 0);
	assert_int_equal(gaps_remove(&g, 0, 11 * STORE_PAGE, release, &m, &err), 0);
	assert_int_equal(gaps_first(&g)->address, 11 * STORE_PAGE);
	assert_int_equal(gaps_first(&g)->slot, 6);
	assert_int_equal(gaps_remove(&g, 11 * STORE_PAGE, 13 * STORE_PAGE, release, &m, &err), 0);
	assert_int_equal(gaps_first(&g)->slot, 9);
	assert_int_equal(gaps_move(&g, 20 * STORE_PAGE, 0, STORE_PAGE, release, &m, &err), 0);
	assert_int_equal(gaps_first(&g)->address, 0);
	assert_int_equal(gaps_remove(&g, 0, UINT64_MAX, release, &m, &err), 0);
	assert_null(gaps_first(&g));
	gaps_clear(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(like_a_model),
		cmocka_unit_test(from_the_front),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
