/*
 * Everything happens in a network namespace of this process's own: it plays
 * the node, further namespaces play the containers. Sockets made inside a
 * container's namespace stay there, so one process can be all of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "engine/base/cleanup.h"
#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "engine/network.h"

#define BRIDGE "gwtest0"
#define NODE_CIDR "10.99.0.1/16"
#define NODE6_CIDR "fd99::1/64"
#define ROUNDS 15

#define OK(call)                                                          \
	do {                                                              \
		struct error ok_err = { 0 };                              \
		struct error *err = &ok_err;                              \
		int ok_r = (call);                                        \
		if (ok_r != 0)                                            \
			fail_msg("%s: %d %s", #call, ok_r, ok_err.msg);   \
	} while (0)

/* The call fails so, and says text. */
#define FAILS(call, code, text)                                           \
	do {                                                              \
		struct error fails_err = { 0 };                           \
		struct error *err = &fails_err;                           \
		int fails_r = (call);                                     \
		if (fails_r != -(code) || !strstr(fails_err.msg, text))   \
			fail_msg("%s: %d %s", #call, fails_r, fails_err.msg); \
	} while (0)

struct container {
	int netns_fd;
	struct network_endpoint ep;
};

static int home_fd = -EBADF;	/* this process's first namespace */
static int node_fd = -EBADF;	/* the node of the test that runs */

static ino_t current_netns(void)
{
	struct stat st;

	assert_int_equal(stat("/proc/self/ns/net", &st), 0);
	return st.st_ino;
}

static int node_up(void **state)
{
	struct error err;

	(void)state;
	if (unshare(CLONE_NEWNET) < 0)
		return -1;
	node_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	return network_bridge_ensure(BRIDGE, NODE_CIDR, &err) < 0 ||
	       network_bridge_ensure(BRIDGE, NODE6_CIDR, &err) < 0 ? -1 : 0;
}

static int node_down(void **state)
{
	(void)state;
	fd_close(&node_fd);
	return setns(home_fd, CLONE_NEWNET);
}

static void container_up(struct container *c, const char *host_ifname, const char *address,
			 enum network_gate gate)
{
	ino_t before = current_netns();

	*c = (struct container){ .netns_fd = -EBADF };
	strcpy(c->ep.bridge, BRIDGE);
	strcpy(c->ep.host_ifname, host_ifname);
	strcpy(c->ep.address, address);
	strcpy(c->ep.gateway, strchr(address, ':') ? "fd99::1" : "10.99.0.1");
	OK(network_mac_for(address, c->ep.mac, err));
	OK(network_namespace_create(&c->netns_fd, err));
	OK(network_attach(c->netns_fd, &c->ep, gate, err));
	assert_int_equal(before, current_netns());
}

static void container_down(struct container *c)
{
	OK(network_detach(c->ep.host_ifname, err));
	fd_close(&c->netns_fd);
}

static void enter(int netns_fd)
{
	assert_int_equal(setns(netns_fd, CLONE_NEWNET), 0);
}

/* What a shell command prints in that namespace, up to 8 kB. */
static void output_of(int netns_fd, const char *command, char *ret, size_t size)
{
	FILE *f;
	size_t n;

	enter(netns_fd);
	f = popen(command, "r");
	enter(node_fd);
	assert_non_null(f);
	n = fread(ret, 1, size - 1, f);
	ret[n] = '\0';
	assert_int_equal(pclose(f), 0);
}

static void expect_output(int netns_fd, const char *command, const char *part)
{
	char text[8192];

	output_of(netns_fd, command, text, sizeof(text));
	if (!strstr(text, part))
		fail_msg("%s prints no '%s' but: %s", command, part, text);
}

static socklen_t address_of(const char *ip, uint16_t port, struct sockaddr_storage *ret)
{
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)ret;
	struct sockaddr_in *four = (struct sockaddr_in *)ret;

	memset(ret, 0, sizeof(*ret));
	if (strchr(ip, ':')) {
		six->sin6_family = AF_INET6;
		six->sin6_port = htons(port);
		assert_int_equal(inet_pton(AF_INET6, ip, &six->sin6_addr), 1);
		return sizeof(*six);
	}
	four->sin_family = AF_INET;
	four->sin_port = htons(port);
	assert_int_equal(inet_pton(AF_INET, ip, &four->sin_addr), 1);
	return sizeof(*four);
}

static int socket_in(int netns_fd, const char *ip, int type, uint16_t port)
{
	struct sockaddr_storage sa;
	socklen_t len = address_of(ip, port, &sa);
	int fd;

	enter(netns_fd);
	fd = socket(sa.ss_family, type | SOCK_CLOEXEC, 0);
	enter(node_fd);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
	return fd;
}

static bool readable(int fd, int wait_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, wait_ms) == 1;
}

/* A datagram gets from one socket to the other within wait_ms. */
static bool passes(int from, int to, const char *to_ip, uint16_t port, int wait_ms)
{
	struct sockaddr_storage sa;
	socklen_t len = address_of(to_ip, port, &sa);
	char text[8];

	assert_int_equal(sendto(from, "ping", 4, 0, (struct sockaddr *)&sa, len), 4);
	return readable(to, wait_ms) && recv(to, text, sizeof(text), 0) == 4;
}

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
	expect_output(c.netns_fd, "ip link show dev eth0", ",UP,LOWER_UP");
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

/* First packets at once both ways, nothing while closed, all again after. */
static void gate_stops_both_directions(const char *address, const char *inside_ip,
				       const char *node_ip)
{
	/* with the count of carrier changes; when the link-local address is good is up to a
	 * worker of the kernel */
	const char *inside_state = "ip addr | sed 's/ tentative//'; ip route; ip -6 route;"
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
#define IN_A_NODE(test) cmocka_unit_test_setup_teardown(test, node_up, node_down)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_counted),
		cmocka_unit_test(macs_are_made_and_read),
		IN_A_NODE(bridge_is_made_once),
		IN_A_NODE(attach_gives_what_was_asked_for),
		IN_A_NODE(attach_that_fails_leaves_nothing),
		IN_A_NODE(no_bridge_means_loopback_only),
		IN_A_NODE(gate_stops_ipv4),
		IN_A_NODE(gate_stops_ipv6),
		IN_A_NODE(attached_closed_nothing_slips_through),
		IN_A_NODE(neighbours_are_asked_again_ipv4),
		IN_A_NODE(neighbours_are_asked_again_ipv6),
		IN_A_NODE(connection_survives_a_closed_gate),
		IN_A_NODE(announcement_is_heard_ipv4),
		IN_A_NODE(announcement_is_believed_ipv4),
		IN_A_NODE(announcement_is_believed_ipv6),
		IN_A_NODE(local_addresses_are_known),
		IN_A_NODE(taken_address_answers_ipv4),
		IN_A_NODE(taken_address_answers_ipv6),
		IN_A_NODE(it_is_quick),
	};

	if (geteuid() != 0) {
		print_message("needs root\n");
		return 77;
	}
	home_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
