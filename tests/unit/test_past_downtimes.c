#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/memory/past_downtimes.h"

#define MB (UINT64_C(1) << 20)

static uint64_t expect_us(const struct past_downtimes *past, uint64_t megabytes)
{
	return past_downtimes_expect(past, megabytes * MB).fixed_us;
}

static void add(struct past_downtimes *past, uint64_t megabytes, uint64_t fixed_us)
{
	past_downtimes_add(past, &(struct past_downtime){ megabytes * MB, fixed_us, 15000 });
}

static void without_a_past_there_is_a_guess(void **state)
{
	struct past_downtimes past = { 0 };

	(void)state;
	assert_in_range(expect_us(&past, 64), 39000, 42000);
	assert_in_range(expect_us(&past, 4096), 45000, 60000);
	assert_in_range(past_downtimes_expect(&past, 0).lead_us, 10000, 30000);
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* What it cost in us in a run of 'tools/bench migrate --runs 3' on a busy machine, idle
 * containers, then writers, then redis: each is expected from those before. */
static void the_median_of_moves_is_expected_within_30_per_cent(void **state)
{
	static const struct {
		uint64_t megabytes, us[3];
	} trace[] = {
		{ 64, { 44800, 65800, 54100 } },
		{ 256, { 79900, 85200, 81200 } },
		{ 1024, { 95900, 80200, 70900 } },
		{ 4096, { 63500, 45900, 68500 } },
		{ 64, { 46400, 63300, 56500 } },
		{ 256, { 73100, 44300, 57400 } },
		{ 1024, { 60600, 77400, 71700 } },
		{ 1024, { 82200, 64800, 71400 } },
	};
	struct past_downtimes past = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(trace) / sizeof(*trace); i++) {
		uint64_t pct[3];

		for (size_t k = 0; k < 3; k++) {
			pct[k] = expect_us(&past, trace[i].megabytes) * 100 / trace[i].us[k];
			add(&past, trace[i].megabytes, trace[i].us[k]);
		}
		qsort(pct, 3, sizeof(*pct), compare);
		assert_in_range(pct[1], 70, 130);
	}
}

/* One size only says nothing of others, but that more memory does not cost less. */
static void another_machine_is_learnt(void **state)
{
	struct past_downtimes past = { 0 };

	(void)state;
	for (int i = 0; i < 6; i++)
		add(&past, 64, 150000);
	assert_in_range(expect_us(&past, 64), 130000, 151000);
	assert_true(expect_us(&past, 4096) >= expect_us(&past, 64));
	for (int i = 0; i < 3; i++)
		add(&past, 64, 40000);
	assert_in_range(expect_us(&past, 64), 40000, 90000);
}

static void it_is_kept_as_text(void **state)
{
	struct past_downtimes past = { 0 }, same;
	char text[PAST_DOWNTIMES_TEXT];
	size_t len;

	(void)state;
	for (uint64_t i = 1; i <= PAST_DOWNTIMES_MAX + 3; i++)
		add(&past, i << 20, 60000000 - i);
	assert_int_equal(past.n, PAST_DOWNTIMES_MAX);
	assert_int_equal(past.at[0].memory_bytes, (UINT64_C(4) << 20) * MB);
	len = past_downtimes_format(&past, text);
	assert_int_equal(len, strlen(text));
	past_downtimes_parse(&same, text);
	assert_int_equal(same.n, past.n);
	assert_memory_equal(same.at, past.at, sizeof(past.at));
}

static void what_is_no_past_is_left_out(void **state)
{
	static const char *const texts[] = {
		"", "\n", "80000\n", "a b c\n", "1 2\n", "64 0 7\n", "64 99999999999 7\n",
		"99999999999999999999 30000 1\n", "1048576 30000 -1\n",
	};
	struct past_downtimes past;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		past_downtimes_parse(&past, texts[i]);
		assert_int_equal(past.n, 0);
	}
	past_downtimes_parse(&past, "1048576 30000 100\nrubbish");
	assert_int_equal(past.n, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_past_there_is_a_guess),
		cmocka_unit_test(the_median_of_moves_is_expected_within_30_per_cent),
		cmocka_unit_test(another_machine_is_learnt),
		cmocka_unit_test(it_is_kept_as_text),
		cmocka_unit_test(what_is_no_past_is_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
