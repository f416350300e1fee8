#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "engine/base/cleanup.h"
#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "engine/network/network.h"
#include "tests/unit/network_fixture.h"

#define ROUNDS 15

static void bridge_is_made_once(void **state)
{
	char before[8192], after[8192];

	(void)state;
	output_of(node_fd, "ip addr show dev " BRIDGE, before, sizeof(before));
	OK(network_bridge_ensure(BRIDGE, NODE_CIDR, err));
	OK(network_bridge_ensure(BRIDGE, "", err));
	output_of(node_fd, "ip addr show dev " BRIDGE, after, sizeof(after));
	assert_string_equal(before, after);
	assert_non_null(strstr(after, "inet " NODE_CIDR));
	assert_non_null(strstr(after, "inet6 " NODE6_CIDR));
	assert_non_null(strstr(after, ",UP"));
	expect_output(node_fd, "ip link set " BRIDGE " down; ip -br link show dev " BRIDGE, "DOWN");
	OK(network_bridge_ensure(BRIDGE, NODE_CIDR, err));
	expect_output(node_fd, "ip addr show dev " BRIDGE, ",UP");
	FAILS(network_bridge_ensure("lo", "", err), EEXIST, "lo");
	FAILS(network_bridge_ensure("", "", err), EINVAL, "bridge");
	FAILS(network_bridge_ensure("a-name-of-16-chr", "", err), EINVAL, "bridge");
	FAILS(network_bridge_ensure("gwtest1", "10.0.0.256/8", err), EINVAL, "10.0.0.256");
	assert_int_equal(if_nametoindex("gwtest1"), 0);
}

static void attach_gives_what_was_asked_for(void **state)
{
	struct container c;

	(void)state;
	container_up(&c, "gwt-web", "10.99.0.7/16", NETWORK_GATE_OPEN);
	expect_output(c.netns_fd, "ip -4 addr show dev eth0", "inet 10.99.0.7/16 ");
	expect_output(c.netns_fd, "ip link show dev eth0", "BROADCAST,MULTICAST,UP,LOWER_UP");
	expect_output(c.netns_fd, "ip link show dev eth0", "link/ether 02:67:0a:63:00:07");
	expect_output(c.netns_fd, "ip -4 route", "default via 10.99.0.1 dev eth0");
	expect_output(c.netns_fd, "ip addr show dev lo", "inet 127.0.0.1/8");
	expect_output(c.netns_fd, "cat /proc/sys/net/ipv4/ping_group_range", "0\t0");
	expect_output(c.netns_fd, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
	expect_output(node_fd, "bridge link show dev gwt-web", "master " BRIDGE " state forwarding");
	expect_output(node_fd, "ip addr show dev gwt-web; echo .", "LOWER_UP");
	expect_output(node_fd, "ip addr show dev gwt-web | grep -c inet6 || true", "0");
	container_down(&c);
	assert_int_equal(if_nametoindex("gwt-web"), 0);
	OK(network_detach("gwt-web", err));
}

static void the_index_of_eth0_may_be_one_of_the_nodes(void **state)
{
	struct container c;

	(void)state;
	expect_output(node_fd, "ip link add gwt-16 index 16 type bridge && echo made", "made");
	container_up(&c, "gwt-web", "10.99.0.7/16", NETWORK_GATE_OPEN);
	expect_output(c.netns_fd, "ip link show dev eth0", "16: eth0");
	container_down(&c);
	expect_output(node_fd, "ip link del gwt-16 && echo gone", "gone");
}

static void attach_that_fails_leaves_nothing(void **state)
{
	struct container c, second;
	char before[8192], after[8192];

	(void)state;
	container_up(&c, "gwt-web", "10.99.0.7/16", NETWORK_GATE_OPEN);
	output_of(node_fd, "ip -br link", before, sizeof(before));
	second = c;
	FAILS(network_attach(c.netns_fd, &second.ep, NETWORK_GATE_OPEN, err), EEXIST, "gwt-web");
	strcpy(second.ep.host_ifname, "gwt-two");
	FAILS(network_attach(c.netns_fd, &second.ep, NETWORK_GATE_OPEN, err), EEXIST, "eth0");
	OK(network_namespace_create(&second.netns_fd, err));
	strcpy(second.ep.gateway, "192.0.2.1");
	FAILS(network_attach(second.netns_fd, &second.ep, NETWORK_GATE_CLOSED, err), ENETUNREACH,
	      "default route");
	strcpy(second.ep.gateway, "fd99::1");
	FAILS(network_attach(second.netns_fd, &second.ep, NETWORK_GATE_OPEN, err), EINVAL,
	      "gateway");
	strcpy(second.ep.gateway, "");
	strcpy(second.ep.bridge, "gwtest9");
	FAILS(network_attach(second.netns_fd, &second.ep, NETWORK_GATE_OPEN, err), ENODEV,
	      "gwtest9");
	output_of(node_fd, "ip -br link", after, sizeof(after));
	assert_string_equal(before, after);
	expect_output(second.netns_fd, "ip -br link | grep -c eth0 || true", "0");
	fd_close(&second.netns_fd);
	container_down(&c);
}

static void no_bridge_means_loopback_only(void **state)
{
	struct network_endpoint ep = { .bridge = "" };
	int netns_fd = -EBADF;

	(void)state;
	OK(network_namespace_create(&netns_fd, err));
	OK(network_attach(netns_fd, &ep, NETWORK_GATE_OPEN, err));
	OK(network_announce(netns_fd, &ep, NULL, err));
	expect_output(netns_fd, "ip -br link | grep -c -v ^lo || true", "0");
	expect_output(netns_fd, "ip link show dev lo", ",UP");
	fd_close(&netns_fd);
}

static void local_addresses_are_known(void **state)
{
	bool local = false;

	(void)state;
	OK(network_address_is_local("10.99.0.1/24", &local, err));
	assert_true(local);
	OK(network_address_is_local("fd99:0::1", &local, err));
	assert_true(local);
	OK(network_address_is_local("10.99.0.2", &local, err));
	assert_false(local);
	OK(network_address_is_local("fd99::2", &local, err));
	assert_false(local);
	FAILS(network_address_is_local("web", &local, err), EINVAL, "web");
}

static void addresses_are_counted(void **state)
{
	static const struct {
		const char *subnet, *range, *gateway;
		uint32_t n;
		const char *expected;	/* NULL: past the end */
	} cases[] = {
		{ "10.88.0.0/16", "", "", 0, "10.88.0.1/16" },
		{ "10.88.0.0/16", "", "10.88.0.1", 0, "10.88.0.2/16" },
		{ "10.88.0.0/16", "", "10.88.0.3", 1, "10.88.0.2/16" },
		{ "10.88.0.0/16", "", "10.88.0.3", 2, "10.88.0.4/16" },
		{ "10.88.0.0/16", "", "", 65533, "10.88.255.254/16" },
		{ "10.88.0.0/16", "", "", 65534, NULL },
		{ "10.88.0.0/16", "", "10.88.0.1", 65533, NULL },
		{ "10.88.0.0/16", "10.88.1.0/24", "10.88.0.1", 0, "10.88.1.1/16" },
		{ "10.88.0.0/16", "10.88.1.0/24", "10.88.0.1", 253, "10.88.1.254/16" },
		{ "10.88.0.0/16", "10.88.1.0/24", "10.88.0.1", 254, NULL },
		{ "10.88.0.0/16", "10.88.1.0/24", "10.88.1.254", 253, NULL },
		{ "10.88.0.0/16", "10.88.1.9/32", "", 0, "10.88.1.9/16" },
		{ "10.88.0.0/16", "10.88.1.9/32", "10.88.1.9", 0, NULL },
		{ "10.88.0.0/16", "10.88.0.0/32", "", 0, NULL },
		{ "10.88.0.0/31", "", "", 1, "10.88.0.1/31" },
		{ "0.0.0.0/0", "", "", 4294967295u, NULL },
		{ "fd00::/64", "", "", 0, "fd00::1/64" },
		{ "fd00::/64", "", "fd00::1", 4294967295u, "fd00::1:0:1/64" },
		{ "fd00::/120", "", "", 254, "fd00::ff/120" },
		{ "fd00::/120", "", "", 255, NULL },
		{ "::/0", "", "", 1, "::2/0" },
	};
	char text[NETWORK_CIDR_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (!cases[i].expected) {
			FAILS(network_address_nth(cases[i].subnet, cases[i].range,
						  cases[i].gateway, cases[i].n, text, err),
			      ERANGE, cases[i].range);
			continue;
		}
		OK(network_address_nth(cases[i].subnet, cases[i].range, cases[i].gateway,
				       cases[i].n, text, err));
		assert_string_equal(text, cases[i].expected);
	}
	FAILS(network_address_nth("10.88.0.0/16", "10.89.0.0/24", "", 0, text, err), EINVAL,
	      "within");
	FAILS(network_address_nth("10.88.0.0/16", "10.0.0.0/8", "", 0, text, err), EINVAL,
	      "within");
	FAILS(network_address_nth("10.88.0.0/33", "", "", 0, text, err), EINVAL, "/33");
	FAILS(network_address_nth("10.88.0.0/", "", "", 0, text, err), EINVAL, "prefix");
	FAILS(network_address_nth("10.88.0/16", "", "", 0, text, err), EINVAL, "10.88.0/16");
	FAILS(network_address_nth("10.88.0.0/16", "", "gate", 0, text, err), EINVAL, "gateway");
}

static void macs_are_made_and_read(void **state)
{
	uint8_t mac[6];
	char text[18];

	(void)state;
	OK(network_mac_for("10.88.0.7/16", mac, err));
	network_mac_format(mac, text);
	assert_string_equal(text, "02:67:0a:58:00:07");
	OK(network_mac_for("fd00::1:2:3", mac, err));
	network_mac_format(mac, text);
	assert_string_equal(text, "02:67:00:02:00:03");
	OK(network_mac_parse("02:67:0A:58:00:ff", mac, err));
	network_mac_format(mac, text);
	assert_string_equal(text, "02:67:0a:58:00:ff");
	FAILS(network_mac_for("", mac, err), EINVAL, "address");
	FAILS(network_mac_parse("02:67:0a:58:00", mac, err), EINVAL, "MAC");
	FAILS(network_mac_parse("02:67:0a:58:00:7g", mac, err), EINVAL, "MAC");
	FAILS(network_mac_parse("02-67-0a-58-00-07", mac, err), EINVAL, "MAC");
	FAILS(network_mac_parse("02:67:0a:58:00:07:", mac, err), EINVAL, "MAC");
	FAILS(network_mac_parse("01:67:0a:58:00:07", mac, err), EINVAL, "MAC");
	FAILS(network_mac_parse("00:00:00:00:00:00", mac, err), EINVAL, "MAC");
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static double median_ms(uint64_t times[ROUNDS])
{
	qsort(times, ROUNDS, sizeof(times[0]), by_value);
	return (double)times[ROUNDS / 2] / 1000;
}

/* Prints where the time of a start goes; the bounds are far above what an idle
 * machine needs and only catch a wait for a timer. */
static void it_is_quick(void **state)
{
	uint64_t create[ROUNDS], attach[ROUNDS], detach[ROUNDS], shut[ROUNDS], open[ROUNDS];

	(void)state;
	for (int i = 0; i < ROUNDS; i++) {
		struct container c = { .ep = { .bridge = BRIDGE, .host_ifname = "gwt-web",
					       .address = "10.99.0.7/16",
					       .gateway = "10.99.0.1" } };
		uint64_t t[6];

		OK(network_mac_for(c.ep.address, c.ep.mac, err));
		t[0] = clock_us();
		OK(network_namespace_create(&c.netns_fd, err));
		t[1] = clock_us();
		OK(network_attach(c.netns_fd, &c.ep, NETWORK_GATE_OPEN, err));
		t[2] = clock_us();
		OK(network_gate_set("gwt-web", NETWORK_GATE_CLOSED, err));
		t[3] = clock_us();
		OK(network_gate_set("gwt-web", NETWORK_GATE_OPEN, err));
		t[4] = clock_us();
		OK(network_detach("gwt-web", err));
		t[5] = clock_us();
		fd_close(&c.netns_fd);
		create[i] = t[1] - t[0];
		attach[i] = t[2] - t[1];
		shut[i] = t[3] - t[2];
		open[i] = t[4] - t[3];
		detach[i] = t[5] - t[4];
	}
	print_message("median ms: create %.2f attach %.2f close %.2f open %.2f detach %.2f\n",
		      median_ms(create), median_ms(attach), median_ms(shut), median_ms(open),
		      median_ms(detach));
	assert_true(median_ms(create) + median_ms(attach) < 200);
	assert_true(median_ms(shut) < 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_counted),
		cmocka_unit_test(macs_are_made_and_read),
		IN_A_NODE(bridge_is_made_once),
		IN_A_NODE(attach_gives_what_was_asked_for),
		IN_A_NODE(the_index_of_eth0_may_be_one_of_the_nodes),
		IN_A_NODE(attach_that_fails_leaves_nothing),
		IN_A_NODE(no_bridge_means_loopback_only),
		IN_A_NODE(local_addresses_are_known),
		IN_A_NODE(it_is_quick),
	};

	if (geteuid() != 0) {
		print_message("needs root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, remember_home, NULL);
}
