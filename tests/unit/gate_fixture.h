/*
 * gate_fixture.h - a container behind a gate, with sockets that talk through it
 */
#pragma once

#include "engine/base/clock.h"
#include "engine/network/gate.h"
#include "engine/network/injector.h"
#include "tests/unit/network_fixture.h"

#define WEB "gwg-web"
#define PORT 7007
#define SOON_MS 10000	/* for what happens at once, on however slow a machine */
#define RETRANSMIT_NEVER "60s"
#define RETRANSMIT_SOON "200ms"

/* Frames that were taken, as a target would receive them. */
struct parcel {
	size_t n;
	size_t bytes;
	struct gate_frame frames[64];
	uint8_t data[1 << 20];
};

static inline void web_up(struct container *c, const char *address, enum network_gate gate)
{
	container_up(c, WEB, address, gate);
}

static inline long number_of(int netns_fd, const char *command)
{
	char text[1024];

	output_of(netns_fd, command, text, sizeof(text));
	return atol(text);
}

#define RETRANSMISSIONS "awk '/^Tcp: [0-9]/ { print $13 }' /proc/net/snmp"

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

/* As passes(), over sockets that are connected. */
static inline bool gets_through(int from, int to, int wait_ms)
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
