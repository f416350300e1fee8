#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "migrate/channel/host.h"

static void as_people_write_it(void **state)
{
	static const char *const cases[][3] = {
		{ "node-b", "node-b", "4967" }, { "node-b:80", "node-b", "80" },
		{ "10.0.0.2:4967", "10.0.0.2", "4967" }, { "[fe80::1]:7", "fe80::1", "7" },
		{ "[fe80::1]", "fe80::1", "4967" }, { "fe80::1", "fe80::1", "4967" },
		{ "fe80::1%eth0", "fe80::1%eth0", "4967" }, { ":4967", "", "4967" },
		{ "::1", "::1", "4967" }, { "node-b:http", "node-b", "http" },
	};
	char host[256], port[16];
	struct error err;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_int_equal(host_split(cases[i][0], host, port, &err), 0);
		assert_string_equal(host, cases[i][1]);
		assert_string_equal(port, cases[i][2]);
	}
}

static void what_is_neither_is_refused(void **state)
{
	static const char *const bad[] = {
		"", "node-b:", "[fe80::1]:", "node-b:1234567890123456", "[fe80::1]x", "[fe80::1",
	};
	char host[256], port[16], name[300];
	struct error err;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		if (host_split(bad[i], host, port, &err) != -EINVAL)
			fail_msg("'%s' became '%s' port '%s'", bad[i], host, port);
		assert_non_null(strstr(err.msg, "HOST"));
	}
	assert_int_equal(host_split("node-b:65536", host, port, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "port '65536' is wrong"));
	assert_int_equal(host_split("node-b:65535", host, port, &err), 0);
	memset(name, 'a', sizeof(name));
	name[256] = '\0';
	assert_int_equal(host_split(name, host, port, &err), -EINVAL);
	name[255] = '\0';
	assert_int_equal(host_split(name, host, port, &err), 0);
	assert_int_equal(strlen(host), 255);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_people_write_it),
		cmocka_unit_test(what_is_neither_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
