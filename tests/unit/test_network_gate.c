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
#include <sys/wait.h>

#include "engine/base/cleanup.h"
#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "engine/network/network.h"
#include "tests/unit/network_fixture.h"

static void gate_stops_both_directions(const char *address, const char *inside_ip,
				       const char *node_ip)
{
	/* with the count of carrier changes; when the link-local address is good and the
	 * link's state is UP is up to workers of the kernel */
	const char *inside_state = "ip addr | sed 's/ tentative//; s/ state [A-Z]*//'; ip route; ip -6 route;"
				   " ip -s -s link show dev eth0 | awk '/transns/ { print; getline; print $NF }'";
	struct container c;
	char before[8192], during[8192];
	int inside, outside;

	container_up(&c, "gwt-web", address, NETWORK_GATE_OPEN);
	inside = socket_in(c.netns_fd, inside_ip, SOCK_DGRAM, 7007);
	outside = socket_in(node_fd, node_ip, SOCK_DGRAM, 7008);
	assert_true(passes(outside, inside, inside_ip, 7007, 200));
	assert_true(passes(inside, outside, node_ip, 7008, 200));
	output_of(c.netns_fd, inside_state, before, sizeof(before));
	assert_non_null(strstr(before, "transns"));

	for (int i = 0; i < 2; i++) {
		OK(network_gate_set("gwt-web", NETWORK_GATE_CLOSED, err));
		OK(network_gate_set("gwt-web", NETWORK_GATE_CLOSED, err));
		assert_false(passes(outside, inside, inside_ip, 7007, 100));
		assert_false(passes(inside, outside, node_ip, 7008, 100));
		output_of(c.netns_fd, inside_state, during, sizeof(during));
		assert_string_equal(before, during);
		OK(network_gate_set("gwt-web", NETWORK_GATE_OPEN, err));
		OK(network_gate_set("gwt-web", NETWORK_GATE_OPEN, err));
		assert_true(passes(outside, inside, inside_ip, 7007, 200));
		assert_true(passes(inside, outside, node_ip, 7008, 200));
	}
	expect_output(node_fd, "tc qdisc show dev gwt-web", "noqueue");
	expect_output(node_fd, "(tc filter show dev gwt-web egress;"
		      " tc filter show dev gwt-web ingress) | grep -c bpf || true", "0");
	fd_close(&inside);
	fd_close(&outside);
	container_down(&c);
	FAILS(network_gate_set("gwt-web", NETWORK_GATE_OPEN, err), ENODEV, "gwt-web");
}

static void gate_stops_ipv4(void **state)
{
	(void)state;
	gate_stops_both_directions("10.99.0.7/16", "10.99.0.7", "10.99.0.1");
}

static void gate_stops_ipv6(void **state)
{
	(void)state;
	gate_stops_both_directions("fd99::7/64", "fd99::7", "fd99::1");
}

static void attached_closed_nothing_slips_through(void **state)
{
	int listener = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
	struct container c;
	int inside, outside;

	(void)state;
	assert_true(listener >= 0);
	container_up(&c, "gwt-web", "10.99.0.7/16", NETWORK_GATE_CLOSED);
	inside = socket_in(c.netns_fd, "10.99.0.7", SOCK_DGRAM, 7007);
	outside = socket_in(node_fd, "10.99.0.1", SOCK_DGRAM, 7008);
	assert_false(passes(inside, outside, "10.99.0.1", 7008, 300));
	for (struct sockaddr_ll from;;) {
		uint8_t frame[2048];
		socklen_t len = sizeof(from);

		if (recvfrom(listener, frame, sizeof(frame), MSG_DONTWAIT,
			     (struct sockaddr *)&from, &len) < 0)
			break;
		/* taps hear a frame before tc does; the bridge must not */
		if (from.sll_ifindex == (int)if_nametoindex(BRIDGE))
			assert_int_equal(from.sll_pkttype, PACKET_OUTGOING);
	}
	OK(network_gate_set("gwt-web", NETWORK_GATE_OPEN, err));
	assert_true(passes(outside, inside, "10.99.0.7", 7007, 1500));
	close(listener);
	close(inside);
	close(outside);
	container_down(&c);
}

static void connection_survives_a_closed_gate(void **state)
{
	struct sockaddr_storage sa;
	struct container c;
	char text[8] = "";
	int server, client, served;

	(void)state;
	container_up(&c, "gwt-web", "10.99.0.7/16", NETWORK_GATE_OPEN);
	server = socket_in(c.netns_fd, "10.99.0.7", SOCK_STREAM, 7007);
	client = socket_in(node_fd, "10.99.0.1", SOCK_STREAM, 0);
	assert_int_equal(listen(server, 1), 0);
	assert_int_equal(connect(client, (struct sockaddr *)&sa,
				 address_of("10.99.0.7", 7007, &sa)), 0);
	served = accept4(server, NULL, NULL, SOCK_CLOEXEC);
	assert_true(served >= 0);
	OK(network_gate_set("gwt-web", NETWORK_GATE_CLOSED, err));
	assert_int_equal(send(client, "to", 2, 0), 2);
	assert_int_equal(send(served, "from", 4, 0), 4);
	assert_false(readable(served, 300));
	assert_false(readable(client, 0));
	OK(network_gate_set("gwt-web", NETWORK_GATE_OPEN, err));
	assert_true(readable(served, 3000));
	assert_int_equal(recv(served, text, sizeof(text), 0), 2);
	assert_true(readable(client, 3000));
	assert_int_equal(recv(client, text, sizeof(text), 0), 4);
	close(client);
	close(served);
	close(server);
	container_down(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_A_NODE(gate_stops_ipv4),
		IN_A_NODE(gate_stops_ipv6),
		IN_A_NODE(attached_closed_nothing_slips_through),
		IN_A_NODE(connection_survives_a_closed_gate),
	};

	if (geteuid() != 0) {
		print_message("needs root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, remember_home, NULL);
}
