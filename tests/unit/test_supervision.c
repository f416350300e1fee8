#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "engine/monitor/health.h"
#include "engine/monitor/restart.h"

static void policies_are_read_and_written(void **state)
{
	static const char *const good[] = { "no", "on-failure", "on-failure:5", "always", "unless-stopped" };
	static const char *const bad[] = { "", "yes", "on-failure:", "on-failure:0", "on-failure:-1", "on-failure:5x",
					   "always:3", "no:1", "Always", "on-failure:99999999999" };
	struct restart_policy p;
	struct error err;
	char text[RESTART_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		assert_int_equal(restart_parse(good[i], &p, &err), 0);
		assert_string_equal(restart_format(&p, text), good[i]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(restart_parse(bad[i], &p, &err), -EINVAL);
}

static void policies_want_another_life(void **state)
{
	const struct restart_policy no = { 0 }, always = { .kind = RESTART_ALWAYS },
				    unless = { .kind = RESTART_UNLESS_STOPPED },
				    failure = { .kind = RESTART_ON_FAILURE },
				    twice = { .kind = RESTART_ON_FAILURE, .max = 2 };

	(void)state;
	assert_false(restart_wanted(&no, 1, 0));
	assert_true(restart_wanted(&always, 0, 1000));
	assert_true(restart_wanted(&unless, 137, 1000));
	assert_false(restart_wanted(&failure, 0, 0));
	assert_true(restart_wanted(&failure, -1, 1000));
	assert_true(restart_wanted(&twice, 1, 1));
	assert_false(restart_wanted(&twice, 1, 2));
	assert_true(restart_at_boot(&always, true));
	assert_true(restart_at_boot(&unless, false));
	assert_false(restart_at_boot(&unless, true));
	assert_false(restart_at_boot(&failure, false));
}

static void delays_grow_to_a_minute(void **state)
{
	(void)state;
	assert_int_equal(restart_delay_us(0), 100000);
	for (uint32_t n = 0; n < 100; n++) {
		assert_true(restart_delay_us(n) <= restart_delay_us(n + 1));
		assert_true(restart_delay_us(n) <= 60000000);
	}
	assert_int_equal(restart_delay_us(UINT32_MAX), 60000000);
}

static void health_needs_failures_in_a_row(void **state)
{
	const struct health_check check = { .retries = 2, .start_period_us = 100 };
	struct health h = { .status = HEALTH_STARTING };

	(void)state;
	assert_false(health_note(&h, &check, false, 99));
	assert_int_equal(h.failures, 0);
	assert_false(health_note(&h, &check, false, 100));
	assert_true(health_note(&h, &check, false, 101));
	assert_int_equal(h.status, HEALTH_UNHEALTHY);
	assert_true(health_note(&h, &check, true, 102));
	assert_false(health_note(&h, &check, false, 1));	/* was well: counts at once */
	assert_int_equal(h.failures, 1);
	assert_false(health_note(&h, &check, true, 2));
	assert_int_equal(h.failures, 0);
	for (int i = 0; i < HEALTH_STATUS_MAX_; i++)
		assert_int_equal(health_from_name(health_name((enum health_status)i)), i);
	assert_int_equal(health_from_name("well"), HEALTH_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(policies_are_read_and_written),
		cmocka_unit_test(policies_want_another_life),
		cmocka_unit_test(delays_grow_to_a_minute),
		cmocka_unit_test(health_needs_failures_in_a_row),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
