/*
 * gate_fixture.h - a node and a container with sockets at both ends, for test_gate.c
 *
 * A network namespace of this process's own plays the node, further ones play
 * containers; sockets made inside stay there, so one process can be all of them.
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

#include "engine/base/clock.h"
#include "engine/gate.h"
#include "engine/injector.h"
#include "engine/network.h"

#define BRIDGE "gwgate0"
#define WEB "gwg-web"
#define PORT 7007
#define SOON_MS 10000	/* for what happens at once, on however slow a machine */
#define RETRANSMIT_NEVER "60s"
#define RETRANSMIT_SOON "200ms"

#define OK(call)                                                          \
	do {                                                              \
		struct error ok_err = { 0 };                              \
		struct error *err = &ok_err;                              \
		int ok_r = (call);                                        \
		if (ok_r != 0)                                            \
			fail_msg("%s: %d %s", #call, ok_r, ok_err.msg);   \
	} while (0)

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

/* Frames that were taken, as a target would receive them. */
struct parcel {
	size_t n;
	size_t bytes;
	struct gate_frame frames[64];
	uint8_t data[1 << 20];
};

static int home_fd = -EBADF;
static int node_fd = -EBADF;

static inline int node_up(void **state)
{
	struct error err;

	(void)state;
	if (unshare(CLONE_NEWNET) < 0)
		return -1;
	node_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	return network_bridge_ensure(BRIDGE, "10.98.0.1/16", &err) < 0 ||
	       network_bridge_ensure(BRIDGE, "fd98::1/64", &err) < 0 ? -1 : 0;
}

static inline int node_down(void **state)
{
	(void)state;
	fd_close(&node_fd);
	return setns(home_fd, CLONE_NEWNET);
}

static inline void container_up(struct container *c, const char *address, enum network_gate gate)
{
	*c = (struct container){ .netns_fd = -EBADF };
	strcpy(c->ep.bridge, BRIDGE);
	strcpy(c->ep.host_ifname, WEB);
	strcpy(c->ep.address, address);
	OK(network_mac_for(address, c->ep.mac, err));
	OK(network_namespace_create(&c->netns_fd, err));
	OK(network_attach(c->netns_fd, &c->ep, gate, err));
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

static inline long number_of(int netns_fd, const char *command)
{
	char text[1024];

	output_of(netns_fd, command, text, sizeof(text));
	return atol(text);
}

#define RETRANSMISSIONS "awk '/^Tcp: [0-9]/ { print $13 }' /proc/net/snmp"

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
	else
		assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
	return fd;
}

/* From now on connections between the two send again what was not acknowledged in that
 * time, at the earliest: for a test that counts how often, whatever else the machine does. */
static inline void retransmit_after(const struct container *c, const char *here, const char *there,
				    const char *time)
{
	static const char probe_off[] = "echo 0 >/proc/sys/net/ipv4/tcp_early_retrans";
	const char *family = strchr(here, ':') ? "-6" : "-4";
	char command[128], text[16];

	output_of(node_fd, probe_off, text, sizeof(text));
	output_of(c->netns_fd, probe_off, text, sizeof(text));
	(void)snprintf(command, sizeof(command), "ip %s route replace %s dev " BRIDGE " rto_min %s", family,
		       there, time);
	output_of(node_fd, command, text, sizeof(text));
	(void)snprintf(command, sizeof(command), "ip %s route replace %s dev eth0 rto_min %s", family, here, time);
	output_of(c->netns_fd, command, text, sizeof(text));
}

/* Sockets here and there that have spoken, so that nobody has to ask for a MAC. */
struct line {
	int here;
	int there;
	int listener;
};

static inline void tcp_up(struct line *l, const struct container *c, const char *here, const char *there)
{
	struct sockaddr_storage sa;

	l->listener = socket_in(c->netns_fd, there, SOCK_STREAM, PORT);
	l->here = socket_in(node_fd, here, SOCK_STREAM, 0);
	assert_int_equal(listen(l->listener, 1), 0);
	assert_int_equal(connect(l->here, (struct sockaddr *)&sa, address_of(there, PORT, &sa)), 0);
	l->there = accept4(l->listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(l->there >= 0);
}

static inline void udp_up(struct line *l, const struct container *c, const char *here, const char *there)
{
	struct sockaddr_storage sa;
	char text[8];

	l->listener = -EBADF;
	l->there = socket_in(c->netns_fd, there, SOCK_DGRAM, PORT);
	l->here = socket_in(node_fd, here, SOCK_DGRAM, PORT);
	assert_int_equal(connect(l->here, (struct sockaddr *)&sa, address_of(there, PORT, &sa)), 0);
	assert_int_equal(connect(l->there, (struct sockaddr *)&sa, address_of(here, PORT, &sa)), 0);
	assert_int_equal(send(l->here, "hello", 5, 0), 5);
	assert_int_equal(recv(l->there, text, sizeof(text), 0), 5);
}

static inline void line_down(struct line *l)
{
	fd_close(&l->here);
	fd_close(&l->there);
	fd_close(&l->listener);
}

static inline bool readable(int fd, int wait_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, wait_ms) == 1;
}

static inline bool passes(int from, int to, int wait_ms)
{
	char text[8];

	assert_int_equal(send(from, "ping", 4, 0), 4);
	return readable(to, wait_ms) && recv(to, text, sizeof(text), 0) == 4;
}

static inline int keep(const struct gate_frame *frame, void *data, struct error *err)
{
	struct parcel *p = data;

	if (p->n == sizeof(p->frames) / sizeof(p->frames[0]) ||
	    frame->len > sizeof(p->data) - p->bytes)
		return error_set(err, ENOSPC, "more frames than expected");
	p->frames[p->n] = *frame;
	p->frames[p->n++].data = memcpy(p->data + p->bytes, frame->data, frame->len);
	p->bytes += frame->len;
	return 0;
}

static inline void deliver(const struct parcel *p, const char *ifname)
{
	CLEANUP(injector_freep) struct injector *in = NULL;

	OK(injector_open(-EBADF, ifname, true, &in, err));
	for (size_t i = 0; i < p->n; i++)
		OK(injector_send(in, &p->frames[i], err));
}

static inline void send_pattern(int fd, uint32_t from, size_t bytes)
{
	CLEANUP(freep) uint8_t *data = malloc(bytes);

	assert_non_null(data);
	for (size_t i = 0; i < bytes; i++)
		data[i] = (uint8_t)((from + i) * 2654435761u >> 24);
	assert_int_equal(send(fd, data, bytes, 0), bytes);
}

static inline void expect_pattern(int fd, uint32_t from, size_t bytes)
{
	CLEANUP(freep) uint8_t *data = malloc(bytes);

	assert_non_null(data);
	assert_true(readable(fd, SOON_MS));
	assert_int_equal(recv(fd, data, bytes, MSG_WAITALL), bytes);
	for (size_t i = 0; i < bytes; i++)
		assert_int_equal(data[i], (uint8_t)((from + i) * 2654435761u >> 24));
}
