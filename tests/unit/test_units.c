#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "engine/base/units.h"

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

static void sizes(void **state)
{
	static const struct { const char *text; uint64_t bytes; } good[] = {
		{ "0", 0 }, { "1500000", 1500000 }, { "64m", 64 << 20 }, { "64M", 64 << 20 },
		{ "1.5g", 3ull << 29 }, { "1k", 1024 }, { "1KiB", 1024 }, { "2tb", 2ull << 40 },
		{ "10b", 10 }, { "0.5k", 512 },
	};
	static const char *const bad[] = {
		"", "m", "-1", "+1", " 1", "1 m", "1x", "1e3", "0x10", "inf", "nan", "1.2.3m", ".5m",
		"99999999t", "1mm", "11111111111111111111111111111111111111",
	};
	struct error err;
	uint64_t v;

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		assert_int_equal(units_parse_size(good[i].text, &v, &err), 0);
		assert_int_equal(v, good[i].bytes);
	}
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_true(units_parse_size(bad[i], &v, &err) < 0);
	assert_int_equal(units_parse_size("lots", &v, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "'lots'"));
}

static void processors(void **state)
{
	struct error err;
	uint32_t v;

	(void)state;
	assert_int_equal(units_parse_cpus("2", &v, &err), 0);
	assert_int_equal(v, 2000);
	assert_int_equal(units_parse_cpus("0.5", &v, &err), 0);
	assert_int_equal(v, 500);
	assert_int_equal(units_parse_cpus("0.29", &v, &err), 0);
	assert_int_equal(v, 290);
	assert_int_equal(units_parse_cpus("0", &v, &err), -ERANGE);
	assert_int_equal(units_parse_cpus("0.0001", &v, &err), -ERANGE);
	assert_int_equal(units_parse_cpus("1m", &v, &err), -EINVAL);
	assert_int_equal(units_parse_cpus("1000000", &v, &err), -ERANGE);
}

static void durations(void **state)
{
	static const struct { const char *text; uint64_t us; } good[] = {
		{ "10", 10000000 }, { "2.5", 2500000 }, { "300ms", 300000 }, { "5m", 300000000 },
		{ "2h", 7200000000 }, { "1d", 86400000000 }, { "0", 0 },
	};
	struct error err;
	uint64_t v;

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		assert_int_equal(units_parse_duration(good[i].text, &v, &err), 0);
		assert_int_equal(v, good[i].us);
	}
	assert_int_equal(units_parse_duration("soon", &v, &err), -EINVAL);
	assert_int_equal(units_parse_duration("99999999999999d", &v, &err), -ERANGE);
}

static void text_for_people(void **state)
{
	char buf[UNITS_TEXT_SIZE];

	(void)state;
	assert_string_equal(units_format_size(0, buf), "0 B");
	assert_string_equal(units_format_size(999, buf), "999 B");
	assert_string_equal(units_format_size(1536, buf), "1.5 KiB");
	assert_string_equal(units_format_size(12 << 20, buf), "12 MiB");
	assert_string_equal(units_format_size(3ull << 29, buf), "1.5 GiB");
	assert_string_equal(units_format_size(UINT64_MAX, buf), "16 EiB");
	assert_string_equal(units_format_duration(8000, buf), "8 ms");
	assert_string_equal(units_format_duration(2500000, buf), "2.5 s");
	assert_string_equal(units_format_duration(4 * 60000000ull, buf), "4 min");
	assert_string_equal(units_format_duration(3 * 3600000000ull, buf), "3 h");
	assert_string_equal(units_format_duration(3 * 86400000000ull, buf), "3 days");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes),
		cmocka_unit_test(processors),
		cmocka_unit_test(durations),
		cmocka_unit_test(text_for_people),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
