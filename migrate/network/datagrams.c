#include <arpa/inet.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/network/network_netns.h"
#include "migrate/network/datagrams.h"
#include "migrate/network/socket_walk.h"
#include "proto/held.h"

#define DATAGRAM_MAX 65535
#define PACKET_MAX 65536	/* the MTU of loopback */
#define HOPS 64
#define INTERFACE "eth0"

/* One that waits. Addresses of IPv4 are the first four bytes. */
struct datagram {
	int family;
	uint8_t from[16], to[16];
	uint16_t from_port, to_port;	/* network order */
	const uint8_t *data;
	size_t len;
};

void datagrams_free(struct datagrams *d)
{
	free(d->data);
	*d = (struct datagrams){ 0 };
}

/* ---- as a packet ---- */

static size_t address_bytes(const struct datagram *g)
{
	return g->family == AF_INET ? 4 : 16;
}

static uint32_t add_words(uint32_t sum, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i + 1 < n; i += 2)
		sum += (uint32_t)(bytes[i] << 8 | bytes[i + 1]);
	return n % 2 ? sum + (uint32_t)(bytes[n - 1] << 8) : sum;
}

/* RFC 768; the pseudo header of RFC 8200 section 8.1 has the same sum. */
static uint16_t checksum(const struct datagram *g, const uint8_t *udp, size_t len)
{
	uint32_t sum = IPPROTO_UDP + (uint32_t)len;

	sum = add_words(sum, g->from, address_bytes(g));
	sum = add_words(sum, g->to, address_bytes(g));
	sum = add_words(sum, udp, len);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)(sum == 0xffff ? sum : ~sum));
}

static bool is_group(const struct datagram *g)
{
	return g->family == AF_INET ? (g->to[0] & 0xf0) == 0xe0 : g->to[0] == 0xff;
}

/* What is for a group goes no further than this host with no hop left. */
static size_t write_head(const struct datagram *g, uint8_t *to, size_t len)
{
	const struct iphdr four = { .version = 4, .ihl = 5, .tot_len = htons((uint16_t)(sizeof(four) + len)),
				    .ttl = is_group(g) ? 0 : HOPS, .protocol = IPPROTO_UDP };
	const struct ip6_hdr six = { .ip6_flow = htonl(6u << 28), .ip6_plen = htons((uint16_t)len),
				     .ip6_nxt = IPPROTO_UDP, .ip6_hlim = is_group(g) ? 0 : HOPS };
	size_t n = g->family == AF_INET ? sizeof(four) : sizeof(six), bytes = address_bytes(g);

	if (g->family == AF_INET)
		memcpy(to, &four, sizeof(four));
	else
		memcpy(to, &six, sizeof(six));
	memcpy(to + n - 2 * bytes, g->from, bytes);
	memcpy(to + n - bytes, g->to, bytes);
	return n;
}

static size_t write_packet(const struct datagram *g, uint8_t *to)
{
	size_t len = sizeof(struct udphdr) + g->len, n = write_head(g, to, len);
	struct udphdr udp = { .source = g->from_port, .dest = g->to_port, .len = htons((uint16_t)len) };

	memcpy(to + n, &udp, sizeof(udp));
	if (g->len)
		memcpy(to + n + sizeof(udp), g->data, g->len);
	udp.check = checksum(g, to + n, len);
	memcpy(to + n, &udp, sizeof(udp));
	return n + len;
}

/* ---- from the socket ---- */

static int keep(struct datagrams *d, const struct datagram *g, struct error *err)
{
	size_t packet = (g->family == AF_INET ? sizeof(struct iphdr) : sizeof(struct ip6_hdr)) +
			sizeof(struct udphdr) + g->len;
	size_t most = d->len + HELD_HEAD_BYTES + packet;
	struct held head = { 0 };

	if (most > DATAGRAMS_BYTES_MAX || packet > PACKET_MAX) {
		d->lost++;
		return 0;
	}
	if (most > d->room) {
		size_t room = 2 * most < 65536 ? 65536 : 2 * most;
		uint8_t *more = realloc(d->data, room);

		if (!more)
			return error_set(err, ENOMEM, "out of memory");
		d->data = more;
		d->room = room;
	}
	head.len = (uint32_t)write_packet(g, d->data + d->len + HELD_HEAD_BYTES);
	held_encode_head(&head, d->data + d->len);
	d->len += HELD_HEAD_BYTES + head.len;
	return 0;
}

/* IPv4 at a socket of IPv6 has mapped addresses (RFC 4291 section 2.5.5.2). */
static void take_address(const struct in6_addr *six, int *ret_family, uint8_t ret[16])
{
	bool mapped = IN6_IS_ADDR_V4MAPPED(six);

	*ret_family = mapped ? AF_INET : AF_INET6;
	memcpy(ret, mapped ? &six->s6_addr[12] : six->s6_addr, mapped ? 4 : 16);
}

static bool take_sender(const struct sockaddr_storage *from, struct datagram *g)
{
	const struct sockaddr_in *four = (const struct sockaddr_in *)from;
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)from;

	g->from_port = from->ss_family == AF_INET ? four->sin_port : six->sin6_port;
	g->family = from->ss_family;
	if (from->ss_family == AF_INET)
		memcpy(g->from, &four->sin_addr, 4);
	else
		take_address(&six->sin6_addr, &g->family, g->from);
	return from->ss_family == AF_INET || from->ss_family == AF_INET6;
}

/* Where it was sent to; *ret_segment is what is one datagram of several that came as one. */
static bool take_control(struct msghdr *m, struct datagram *g, size_t *ret_segment)
{
	struct in6_pktinfo six;
	struct in_pktinfo four;
	bool known = false;
	int family, segment;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			memcpy(&four, CMSG_DATA(c), sizeof(four));
			memcpy(g->to, &four.ipi_addr, 4);
			known = g->family == AF_INET;
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			memcpy(&six, CMSG_DATA(c), sizeof(six));
			take_address(&six.ipi6_addr, &family, g->to);
			known = family == g->family;
		} else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
			memcpy(&segment, CMSG_DATA(c), sizeof(segment));
			*ret_segment = segment > 0 ? (size_t)segment : *ret_segment;
		}
	}
	return known;
}

static int keep_segments(struct datagrams *d, struct datagram *g, const uint8_t *data, size_t len, size_t segment,
			 struct error *err)
{
	size_t at = 0;

	do {
		g->data = data + at;
		g->len = len - at < segment ? len - at : segment;
		if (keep(d, g, err) < 0)
			return -err->code;
		at += g->len;
	} while (at < len);
	return 0;
}

/* 1: there is no more. */
static int look_at_next(struct datagrams *d, int socket_fd, uint16_t port, struct error *err)
{
	static uint8_t data[DATAGRAM_MAX];
	char control[1024];
	struct sockaddr_storage from;
	struct iovec iov = { data, sizeof(data) };
	struct msghdr m = { .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iov, .msg_iovlen = 1,
			    .msg_control = control, .msg_controllen = sizeof(control) };
	struct datagram g = { .to_port = port };
	ssize_t n = recvmsg(socket_fd, &m, MSG_PEEK | MSG_DONTWAIT);
	size_t segment = DATAGRAM_MAX;

	if (n < 0)
		return 1;
	if (take_sender(&from, &g) && take_control(&m, &g, &segment))
		return keep_segments(d, &g, data, (size_t)n, segment, err);
	d->lost++;
	return 0;
}

static bool anything_waits(int socket_fd)
{
	struct pollfd p = { .fd = socket_fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1 && (p.revents & POLLIN);
}

static uint16_t port_of(int socket_fd)
{
	struct sockaddr_storage sa = { 0 };
	socklen_t len = sizeof(sa);

	if (getsockname(socket_fd, (struct sockaddr *)&sa, &len) < 0)
		return 0;
	return sa.ss_family == AF_INET ? ((struct sockaddr_in *)&sa)->sin_port :
					 ((struct sockaddr_in6 *)&sa)->sin6_port;
}

/* What is set for it is the program's again afterwards. */
static int look_at_all(struct datagrams *d, int socket_fd, bool six, struct error *err)
{
	int level = six ? IPPROTO_IPV6 : IPPROTO_IP, name = six ? IPV6_RECVPKTINFO : IP_PKTINFO;
	int had = socket_option(socket_fd, level, name), r = 0;
	int from = socket_option(socket_fd, SOL_SOCKET, SO_PEEK_OFF);
	const int one = 1, start = 0;
	uint16_t port = port_of(socket_fd);

	if (setsockopt(socket_fd, level, name, &one, sizeof(one)) < 0)
		return error_set(err, errno, "look at the datagrams of a socket: %s", strerror(errno));
	if (setsockopt(socket_fd, SOL_SOCKET, SO_PEEK_OFF, &start, sizeof(start)) < 0)
		r = error_set(err, errno, "look at the datagrams of a socket: %s", strerror(errno));
	while (r == 0)
		r = look_at_next(d, socket_fd, port, err);
	(void)setsockopt(socket_fd, SOL_SOCKET, SO_PEEK_OFF, &from, sizeof(from));
	(void)setsockopt(socket_fd, level, name, &had, sizeof(had));
	return r < 0 ? r : 0;
}

int datagrams_look(struct datagrams *d, int socket_fd, struct error *err)
{
	int family;

	if (socket_option(socket_fd, SOL_SOCKET, SO_PROTOCOL) != IPPROTO_UDP || !anything_waits(socket_fd))
		return 0;
	family = socket_option(socket_fd, SOL_SOCKET, SO_DOMAIN);
	if (family != AF_INET && family != AF_INET6)
		return 0;
	return look_at_all(d, socket_fd, family == AF_INET6, err);
}

/* ---- once more ---- */

/* Raw sockets: those of eth0 make the kernel think that it came from there. */
struct senders {
	int fds[2][2];			/* IPv4, IPv6; from anywhere, from eth0 */
};

static void senders_closep(struct senders *s)
{
	for (int i = 0; i < 4; i++)
		fd_close(&s->fds[i / 2][i % 2]);
}

/* -EAFNOSUPPORT: there is no IPv6. */
static int open_sender(struct senders *s, int netns_fd, bool six, bool outside, struct error *err)
{
	int *fd = &s->fds[six][outside];

	if (*fd >= 0)
		return 0;
	if (network_netns_socket(netns_fd, six ? AF_INET6 : AF_INET, SOCK_RAW, IPPROTO_RAW, fd, err) < 0)
		return -err->code;
	if (outside && setsockopt(*fd, SOL_SOCKET, SO_BINDTODEVICE, INTERFACE, sizeof(INTERFACE)) < 0)
		return error_set(err, errno, "bind to " INTERFACE ": %s", strerror(errno));
	return 0;
}

static int send_four(struct senders *s, int netns_fd, const struct held *p, struct error *err)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	struct iphdr head;
	bool outside;

	if (p->len < sizeof(head) + sizeof(struct udphdr))
		return error_set(err, EPROTO, "a datagram is cut short");
	memcpy(&head, p->data, sizeof(head));
	if (head.ihl != 5 || head.protocol != IPPROTO_UDP || ntohs(head.tot_len) != p->len)
		return error_set(err, EPROTO, "a datagram makes no sense");
	to.sin_addr.s_addr = head.daddr;
	outside = ntohl(head.saddr) >> 24 != IN_LOOPBACKNET;
	if (open_sender(s, netns_fd, false, outside, err) < 0)
		return -err->code;
	return sendto(s->fds[0][outside], p->data, p->len, 0, (struct sockaddr *)&to, sizeof(to)) < 0;
}

static int send_six(struct senders *s, int netns_fd, const struct held *p, struct error *err)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6 };
	struct ip6_hdr head;
	bool outside;

	if (p->len < sizeof(head) + sizeof(struct udphdr))
		return error_set(err, EPROTO, "a datagram is cut short");
	memcpy(&head, p->data, sizeof(head));
	if (head.ip6_nxt != IPPROTO_UDP || ntohs(head.ip6_plen) + sizeof(head) != p->len)
		return error_set(err, EPROTO, "a datagram makes no sense");
	to.sin6_addr = head.ip6_dst;
	outside = !IN6_IS_ADDR_LOOPBACK(&head.ip6_src);
	if (open_sender(s, netns_fd, true, outside, err) < 0)
		return -err->code;
	return sendto(s->fds[1][outside], p->data, p->len, 0, (struct sockaddr *)&to, sizeof(to)) < 0;
}

int datagrams_deliver(int netns_fd, const void *records, size_t len, uint64_t *ret_lost, struct error *err)
{
	CLEANUP(senders_closep) struct senders s = { { { -EBADF, -EBADF }, { -EBADF, -EBADF } } };
	struct held p;
	size_t at = 0;
	int r;

	*ret_lost = 0;
	while ((r = held_decode(records, len, &at, &p, err)) == 0) {
		r = p.data[0] >> 4 == 6 ? send_six(&s, netns_fd, &p, err) : send_four(&s, netns_fd, &p, err);
		if (r == -EPROTO)
			return r;
		*ret_lost += r != 0;
	}
	return r < 0 ? r : 0;
}
