#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/network/port.h"

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

static void texts(void **state)
{
	static const struct { const char *text, *same; } good[] = {
		{ "8080:80", "8080:80/tcp" }, { "53:53/udp", "53:53/udp" }, { "1:65535/sctp", "1:65535/sctp" },
		{ "192.0.2.1:8080:80", "192.0.2.1:8080:80/tcp" },
		{ "[2001:db8::1]:8080:80/udp", "[2001:db8::1]:8080:80/udp" },
	};
	static const char *const bad[] = {
		"", "80", ":80", "80:", "0:80", "80:0", "65536:80", "80:80/", "80:80/icmp", "80:80/tcp/udp", "x:80",
		"192.0.2:80:80", "192.0.2.1:80", "[2001:db8::1:80:80", "2001:db8::1:80:80", "-1:80", "80:80x",
		"192.0.2.1:80:80:80", "[192.0.2.1]:80:80", "+80:80", " 80:80", "80 :80",
	};
	char text[PORT_TEXT_MAX];
	struct port port;
	struct error err;

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		assert_int_equal(port_parse(good[i].text, &port, &err), 0);
		port_format(&port, text);
		assert_string_equal(text, good[i].same);
	}
	for (size_t i = 0; i < COUNT(bad); i++)
		if (port_parse(bad[i], &port, &err) != -EINVAL)
			fail_msg("'%s' was taken", bad[i]);
	assert_int_equal(port_parse("what", &port, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "'what'"));
}

static void lists(void **state)
{
	static const char text[] = "8080:80/tcp,8080:80/udp,192.0.2.1:443:443/tcp,192.0.2.2:443:443/tcp";
	char again[PORT_LIST_TEXT_MAX], many[16 * (PORTS_MAX + 1)] = "", *end = many;
	struct port ports[PORTS_MAX];
	struct error err;
	size_t n;

	(void)state;
	assert_int_equal(port_list_parse(text, ports, &n, &err), 0);
	assert_int_equal(n, 4);
	port_list_format(ports, n, again);
	assert_string_equal(again, text);
	assert_int_equal(port_list_parse("", ports, &n, &err), 0);
	assert_int_equal(n, 0);
	assert_int_equal(port_list_parse("80:80,80:81", ports, &n, &err), -EEXIST);
	assert_int_equal(port_list_parse("192.0.2.1:80:80,80:81", ports, &n, &err), -EEXIST);
	assert_int_equal(port_list_parse("80:80,oops", ports, &n, &err), -EINVAL);
	for (unsigned i = 0; i <= PORTS_MAX; i++)
		end += sprintf(end, "%u:80,", 1000 + i);
	assert_int_equal(port_list_parse(many, ports, &n, &err), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(texts), cmocka_unit_test(lists) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
