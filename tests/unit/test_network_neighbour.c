/* Who asks for a neighbour, who tells of himself, and who has an address already. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <string.h>
#include <sys/socket.h>

#include "engine/base/cleanup.h"
#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "engine/network/network.h"
#include "tests/unit/network_fixture.h"

/* A question that the gate swallowed is repeated only after a second; forgotten,
 * it is asked at once. */
static void neighbours_asked_for_in_vain_are_asked_again(const char *address, const char *inside_ip,
							 const char *node_ip)
{
	struct container c;
	int inside, outside;

	container_up(&c, "gwt-web", address, NETWORK_GATE_CLOSED);
	inside = socket_in(c.netns_fd, inside_ip, SOCK_DGRAM, 7007);
	outside = socket_in(node_fd, node_ip, SOCK_DGRAM, 7008);
	assert_false(passes(inside, outside, node_ip, 7008, 100));
	expect_output(c.netns_fd, "ip neigh show dev eth0", "INCOMPLETE");
	OK(network_gate_set("gwt-web", NETWORK_GATE_OPEN, err));
	OK(network_neighbours_forget(c.netns_fd, &c.ep, err));
	assert_true(passes(inside, outside, node_ip, 7008, 300));
	expect_output(c.netns_fd, "ip -o link show eth0", ",UP");
	fd_close(&inside);
	fd_close(&outside);
	container_down(&c);
}

static void neighbours_are_asked_again_ipv4(void **state)
{
	(void)state;
	neighbours_asked_for_in_vain_are_asked_again("10.99.0.7/16", "10.99.0.7", "10.99.0.1");
}

static void neighbours_are_asked_again_ipv6(void **state)
{
	(void)state;
	neighbours_asked_for_in_vain_are_asked_again("fd99::7/64", "fd99::7", "fd99::1");
}

static int bridge_listener(uint16_t protocol)
{
	struct sockaddr_ll sa = { .sll_family = AF_PACKET, .sll_protocol = htons(protocol),
				  .sll_ifindex = (int)if_nametoindex(BRIDGE) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

static void announcement_is_heard_ipv4(void **state)
{
	static const uint8_t ip[] = { 10, 99, 0, 7 };
	static const uint8_t mac[] = { 0x02, 0x67, 10, 99, 0, 7 };
	struct container c;
	uint8_t f[128];
	int fd;

	(void)state;
	container_up(&c, "gwt-web", "10.99.0.7/16", NETWORK_GATE_OPEN);
	fd = bridge_listener(ETH_P_ARP);
	OK(network_announce(c.netns_fd, &c.ep, NULL, err));
	for (uint8_t op = 1; op <= 2; op++) {	/* a request, then a reply */
		assert_true(readable(fd, 500));
		assert_true(recv(fd, f, sizeof(f), 0) >= 42);
		assert_memory_equal(f, "\xff\xff\xff\xff\xff\xff", 6);
		assert_memory_equal(f + 6, mac, 6);
		assert_int_equal(f[21], op);
		assert_memory_equal(f + 22, mac, 6);
		assert_memory_equal(f + 28, ip, 4);
		assert_memory_equal(f + 38, ip, 4);
	}
	close(fd);
	container_down(&c);
}

/* The neighbour's kernel checks the advertisement for us: a wrong entry of its
 * table is put right. */
static void announcement_is_believed(const char *address, const char *ip, const char *mac)
{
	struct container c;
	char command[256];

	container_up(&c, "gwt-web", address, NETWORK_GATE_OPEN);
	(void)snprintf(command, sizeof(command), "ip neigh replace %s lladdr 02:00:00:00:00:99 "
		       "dev " BRIDGE " nud reachable; ip neigh show %s", ip, ip);
	expect_output(node_fd, command, "02:00:00:00:00:99");
	OK(network_announce(c.netns_fd, &c.ep, NULL, err));
	(void)poll(NULL, 0, 50);
	(void)snprintf(command, sizeof(command), "ip neigh show %s", ip);
	expect_output(node_fd, command, mac);
	container_down(&c);
}

static void announcement_is_believed_ipv4(void **state)
{
	(void)state;
	announcement_is_believed("10.99.0.7/16", "10.99.0.7", "02:67:0a:63:00:07");
}

static void announcement_is_believed_ipv6(void **state)
{
	(void)state;
	announcement_is_believed("fd99::7/64", "fd99::7", "02:67:00:00:00:07");
}

static void taken_address_answers(const char *taken, const char *closed, const char *unused)
{
	struct container c;
	uint64_t start;
	bool answers;

	container_up(&c, "gwt-web", taken, NETWORK_GATE_OPEN);
	answers = false;
	start = clock_us();
	OK(network_address_answers(BRIDGE, taken, 20000000, &answers, err));
	assert_true(answers);
	assert_true(clock_us() - start < 10000000);
	start = clock_us();
	OK(network_address_answers(BRIDGE, unused, 150000, &answers, err));
	assert_false(answers);
	assert_in_range(clock_us() - start, 149000, 10000000);
	OK(network_gate_set("gwt-web", NETWORK_GATE_CLOSED, err));
	OK(network_address_answers(BRIDGE, closed, 50000, &answers, err));
	assert_false(answers);
	FAILS(network_address_answers("gwtest9", taken, 50000, &answers, err), ENODEV, "gwtest9");
	container_down(&c);
}

static void taken_address_answers_ipv4(void **state)
{
	(void)state;
	taken_address_answers("10.99.0.7/16", "10.99.0.7", "10.99.0.8");
}

static void taken_address_answers_ipv6(void **state)
{
	(void)state;
	taken_address_answers("fd99::7/64", "fd99::7", "fd99::8");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_A_NODE(neighbours_are_asked_again_ipv4),
		IN_A_NODE(neighbours_are_asked_again_ipv6),
		IN_A_NODE(announcement_is_heard_ipv4),
		IN_A_NODE(announcement_is_believed_ipv4),
		IN_A_NODE(announcement_is_believed_ipv6),
		IN_A_NODE(taken_address_answers_ipv4),
		IN_A_NODE(taken_address_answers_ipv6),
	};

	if (geteuid() != 0) {
		print_message("needs root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, remember_home, NULL);
}
