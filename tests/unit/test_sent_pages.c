#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "migrate/memory/sent_pages.h"

#define PAGE 4096ull
#define GB (1ull << 30)

static struct sent_pages *new_table(void)
{
	struct sent_pages *s = NULL;
	struct error err;

	assert_int_equal(sent_pages_new(1, &s, &err), 0);
	return s;
}

static void remembers_by_space_and_address(void **state)
{
	CLEANUP(sent_pages_freep) struct sent_pages *s = new_table();

	(void)state;
	assert_false(sent_pages_same(s, 1, 5 * PAGE, 77));
	assert_true(sent_pages_same(s, 1, 5 * PAGE, 77));
	assert_false(sent_pages_same(s, 2, 5 * PAGE, 77));
	assert_false(sent_pages_same(s, 1, 6 * PAGE, 77));
	assert_false(sent_pages_same(s, 1, 5 * PAGE, 78));
	assert_false(sent_pages_same(s, 1, 5 * PAGE, 77));
}

static void a_hash_of_zero_is_a_hash(void **state)
{
	CLEANUP(sent_pages_freep) struct sent_pages *s = new_table();

	(void)state;
	assert_false(sent_pages_same(s, 1, 0, 0));
	assert_true(sent_pages_same(s, 1, 0, 0));
	assert_false(sent_pages_same(s, 1, PAGE, 0));
}

/* Pages of `bytes` of memory that are known again after all of them were noted. */
static double share_known(struct sent_pages *s, uint64_t bytes)
{
	uint64_t known = 0;

	for (uint64_t at = 0; at < bytes; at += PAGE)
		assert_false(sent_pages_same(s, 1, at, at + 1));
	for (uint64_t at = 0; at < bytes; at += PAGE)
		known += sent_pages_same(s, 1, at, at + 1);
	return (double)known * PAGE / (double)bytes;
}

/* What gives way is sent again; what is known is never wrong. */
static void holds_what_it_promises(void **state)
{
	CLEANUP(sent_pages_freep) struct sent_pages *some = new_table(), *much = new_table();

	(void)state;
	assert_true(share_known(some, 2 * GB) == 1.0);
	assert_true(share_known(much, 7 * GB) > 0.6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(remembers_by_space_and_address),
		cmocka_unit_test(a_hash_of_zero_is_a_hash),
		cmocka_unit_test(holds_what_it_promises),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
