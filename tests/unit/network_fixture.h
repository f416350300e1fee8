/*
 * network_fixture.h - a node and its containers, each a network namespace
 *
 * Everything happens in a network namespace of this process's own: it plays
 * the node, further namespaces play the containers. Sockets made inside a
 * container's namespace stay there, so one process can be all of them.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "engine/base/fd.h"
#include "engine/network/network.h"

#define BRIDGE "gwtest0"
#define NODE_CIDR "10.99.0.1/16"
#define NODE6_CIDR "fd99::1/64"

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

/* The group's setup. */
static inline int remember_home(void **state)
{
	(void)state;
	home_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	return home_fd < 0 ? -1 : 0;
}

static inline ino_t current_netns(void)
{
	struct stat st;

	assert_int_equal(stat("/proc/self/ns/net", &st), 0);
	return st.st_ino;
}

static inline int node_up(void **state)
{
	struct error err;

	(void)state;
	if (unshare(CLONE_NEWNET) < 0)
		return -1;
	node_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	return network_bridge_ensure(BRIDGE, NODE_CIDR, &err) < 0 ||
	       network_bridge_ensure(BRIDGE, NODE6_CIDR, &err) < 0 ? -1 : 0;
}

static inline int node_down(void **state)
{
	(void)state;
	fd_close(&node_fd);
	return setns(home_fd, CLONE_NEWNET);
}

static inline void container_up(struct container *c, const char *host_ifname, const char *address,
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

static inline void container_down(struct container *c)
{
	OK(network_detach(c->ep.host_ifname, err));
	fd_close(&c->netns_fd);
}

static inline void enter(int netns_fd)
{
	assert_int_equal(setns(netns_fd, CLONE_NEWNET), 0);
}

/* What a shell command prints in that namespace, up to 8 kB. */
static inline void output_of(int netns_fd, const char *command, char *ret, size_t size)
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

static inline void expect_output(int netns_fd, const char *command, const char *part)
{
	char text[8192];

	output_of(netns_fd, command, text, sizeof(text));
	if (!strstr(text, part))
		fail_msg("%s prints no '%s' but: %s", command, part, text);
}

static inline socklen_t address_of(const char *ip, uint16_t port, struct sockaddr_storage *ret)
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

static inline int socket_in(int netns_fd, const char *ip, int type, uint16_t port)
{
	struct sockaddr_storage sa;
	socklen_t len = address_of(ip, port, &sa);
	const int big = 16 << 20, one = 1;
	int fd;

	enter(netns_fd);
	fd = socket(sa.ss_family, type | SOCK_CLOEXEC, 0);
	enter(node_fd);
	assert_true(fd >= 0);
	if (type == SOCK_DGRAM)
		assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &big, sizeof(big)), 0);
	else if (type == SOCK_STREAM)
		assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
	return fd;
}

static inline bool readable(int fd, int wait_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, wait_ms) == 1;
}

/* A datagram gets from one socket to the other within wait_ms. */
static inline bool passes(int from, int to, const char *to_ip, uint16_t port, int wait_ms)
{
	struct sockaddr_storage sa;
	socklen_t len = address_of(to_ip, port, &sa);
	char text[8];

	assert_int_equal(sendto(from, "ping", 4, 0, (struct sockaddr *)&sa, len), 4);
	return readable(to, wait_ms) && recv(to, text, sizeof(text), 0) == 4;
}

#define IN_A_NODE(test) cmocka_unit_test_setup_teardown(test, node_up, node_down)
