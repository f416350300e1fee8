#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/network/network.h"
#include "migrate/network/datagrams.h"
#include "migrate/network/socket_options.h"

static int netns = -EBADF;

static int make_namespace(void **state)
{
	struct error err;

	(void)state;
	return network_namespace_create(&netns, &err) < 0 || setns(netns, 0) < 0 ? -1 : 0;
}

/* Two sockets in the namespace, the second connected to the first. */
static void make_pair(int family, int ret[2], struct sockaddr_storage *ret_sender)
{
	struct sockaddr_storage sa = { .ss_family = (sa_family_t)family };
	socklen_t len = sizeof(sa);

	if (family == AF_INET)
		((struct sockaddr_in *)&sa)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		((struct sockaddr_in6 *)&sa)->sin6_addr = in6addr_loopback;
	ret[0] = socket(family, SOCK_DGRAM, 0);
	ret[1] = socket(family, SOCK_DGRAM, 0);
	assert_int_equal(bind(ret[0], (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(getsockname(ret[0], (struct sockaddr *)&sa, &len), 0);
	assert_int_equal(connect(ret[1], (struct sockaddr *)&sa, len), 0);
	len = sizeof(*ret_sender);
	assert_int_equal(getsockname(ret[1], (struct sockaddr *)ret_sender, &len), 0);
}

static void expect(int fd, const char *text, size_t n, const struct sockaddr_storage *sender)
{
	char have[70000];
	struct sockaddr_storage from = { 0 };
	socklen_t len = sizeof(from);

	assert_int_equal(recvfrom(fd, have, sizeof(have), MSG_DONTWAIT, (struct sockaddr *)&from, &len), n);
	assert_memory_equal(have, text, n);
	assert_int_equal(from.ss_family, sender->ss_family);
	assert_int_equal(((struct sockaddr_in *)&from)->sin_port, ((const struct sockaddr_in *)sender)->sin_port);
}

/* Looking takes nothing away; delivered, they are there once more, in order, from the same sender. */
static void datagrams_come_again(int family)
{
	static char longest[65000];
	CLEANUP(datagrams_free) struct datagrams d = { 0 };
	struct sockaddr_storage sender;
	struct error err;
	uint64_t lost;
	int s[2];

	memset(longest, 'l', sizeof(longest));
	make_pair(family, s, &sender);
	assert_int_equal(send(s[1], "odd", 3, 0), 3);
	assert_int_equal(send(s[1], "", 0, 0), 0);
	assert_int_equal(send(s[1], longest, sizeof(longest), 0), sizeof(longest));
	assert_int_equal(datagrams_look(&d, s[0], &err), 0);
	assert_int_equal(d.lost, 0);
	assert_int_equal(datagrams_deliver(netns, d.data, d.len, &lost, &err), 0);
	assert_int_equal(lost, 0);
	for (int i = 0; i < 2; i++) {
		expect(s[0], "odd", 3, &sender);
		expect(s[0], "", 0, &sender);
		expect(s[0], longest, sizeof(longest), &sender);
	}
	assert_true(recv(s[0], longest, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
	close(s[0]);
	close(s[1]);
}

static void datagrams_come_again_ipv4(void **state)
{
	(void)state;
	datagrams_come_again(AF_INET);
}

static void datagrams_come_again_ipv6(void **state)
{
	(void)state;
	datagrams_come_again(AF_INET6);
}

/* Whatever is cut off or changed in the head is refused, or is another packet: nothing else happens. */
static void damaged_records_are_refused(void **state)
{
	CLEANUP(datagrams_free) struct datagrams d = { 0 };
	struct sockaddr_storage sender;
	struct error err;
	uint64_t lost;
	int s[2];

	(void)state;
	make_pair(AF_INET, s, &sender);
	assert_int_equal(send(s[1], "some text", 9, 0), 9);
	assert_int_equal(datagrams_look(&d, s[0], &err), 0);
	for (size_t len = 1; len < d.len; len++)
		assert_int_equal(datagrams_deliver(netns, d.data, len, &lost, &err), -EPROTO);
	d.data[8 + 9] = IPPROTO_TCP;
	assert_int_equal(datagrams_deliver(netns, d.data, d.len, &lost, &err), -EPROTO);
	close(s[0]);
	close(s[1]);
}

static void options_are_set_again(void **state)
{
	CLEANUP(socket_defaults_closep) struct socket_defaults defaults = SOCKET_DEFAULTS_EMPTY;
	int from = socket(AF_INET, SOCK_STREAM, 0), to = socket(AF_INET, SOCK_STREAM, 0), value = 4321;
	socklen_t len = sizeof(value);
	struct error err;
	json_t *kept;

	(void)state;
	assert_int_equal(socket_defaults_open(getpid(), &defaults, &err), 0);
	assert_null(socket_options_read(&defaults, from));
	assert_int_equal(setsockopt(from, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, sizeof(value)), 0);
	kept = socket_options_read(&defaults, from);
	assert_non_null(kept);
	assert_int_equal(socket_options_set(kept, to, &err), 0);
	json_decref(kept);
	value = 0;
	assert_int_equal(getsockopt(to, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, &len), 0);
	assert_int_equal(value, 4321);
	close(from);
	close(to);
}

static void unknown_options_are_refused(void **state)
{
	static const char *const texts[] = {
		"{\"options\": {\"SO_ATTACH_FILTER\": 1}}", "{\"options\": {\"TCP_SYNCNT\": \"many\"}}",
		"{\"options\": {}, \"groups\": [7]}", "{\"options\": {}, \"groups\": [\"eth0 239.1.2.3\"]}",
		"{\"options\": {}, \"groups\": [\"2 239.1.2\"]}",
	};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct error err;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		json_t *kept = json_loads(texts[i], 0, NULL);

		assert_non_null(kept);
		assert_int_equal(socket_options_set(kept, fd, &err), -EPROTO);
		json_decref(kept);
	}
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(datagrams_come_again_ipv4),   cmocka_unit_test(datagrams_come_again_ipv6),
		cmocka_unit_test(damaged_records_are_refused), cmocka_unit_test(options_are_set_again),
		cmocka_unit_test(unknown_options_are_refused),
	};

	if (geteuid() != 0) {
		print_message("needs root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, make_namespace, NULL);
}
