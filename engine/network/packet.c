#include <net/ethernet.h>
#include <netinet/in.h>
#include <netinet/ip6.h>
#include <string.h>
#include <sys/socket.h>

#include "engine/network/packet.h"

#define ETHERTYPE_QINQ 0x88a8
#define TAGS_MAX 2
#define EXTENSIONS_MAX 8
#define IPV4_HEADER 20
#define IPV6_HEADER 40
#define TCP_HEADER 20
#define UDP_HEADER 8
#define TCP_CWR 0x80

/* What is left of the frame, from at on. */
struct cursor {
	const uint8_t *frame;
	size_t len;
	size_t at;
};

static uint16_t get_u16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static bool has(const struct cursor *c, size_t n)
{
	return c->len - c->at >= n;
}

static uint16_t fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

/* addresses: source and destination, as they follow one another in the header */
static uint16_t pseudo_sum(const uint8_t *addresses, size_t n, uint8_t protocol, size_t len)
{
	uint32_t sum = (uint32_t)(len >> 16) + (uint32_t)(len & 0xffff) + protocol;

	for (size_t i = 0; i < n; i += 2)
		sum += get_u16(addresses + i);
	return fold(sum);
}

static uint16_t read_ethernet(struct cursor *c)
{
	uint16_t type;

	if (!has(c, ETH_HLEN))
		return 0;
	c->at = ETH_HLEN;
	type = get_u16(c->frame + c->at - 2);
	for (int i = 0; i < TAGS_MAX && (type == ETHERTYPE_VLAN || type == ETHERTYPE_QINQ); i++) {
		if (!has(c, 4))
			return 0;
		c->at += 4;
		type = get_u16(c->frame + c->at - 2);
	}
	return type;
}

static void read_ipv4(struct cursor *c, struct packet *p)
{
	const uint8_t *ip = c->frame + c->at;
	size_t header, total;

	if (!has(c, IPV4_HEADER) || ip[0] >> 4 != 4)
		return;
	header = (size_t)(ip[0] & 15) * 4;
	total = get_u16(ip + 2);
	if (header < IPV4_HEADER || total < header || !has(c, total))
		return;
	p->family = AF_INET;
	c->len = c->at + total;		/* without padding */
	c->at += header;
	if (get_u16(ip + 6) & 0x3fff)	/* more fragments, or an offset */
		return;
	p->protocol = ip[9];
	p->transport = c->at;
	p->pseudo_sum = pseudo_sum(ip + 12, 8, p->protocol, total - header);
}

static bool is_extension(uint8_t header)
{
	return header == IPPROTO_HOPOPTS || header == IPPROTO_ROUTING || header == IPPROTO_DSTOPTS;
}

static void read_ipv6(struct cursor *c, struct packet *p)
{
	const uint8_t *ip = c->frame + c->at;
	uint8_t next;

	if (!has(c, IPV6_HEADER) || ip[0] >> 4 != 6 || !has(c, IPV6_HEADER + get_u16(ip + 4)))
		return;
	p->family = AF_INET6;
	next = ip[6];
	c->len = c->at + IPV6_HEADER + get_u16(ip + 4);
	c->at += IPV6_HEADER;
	for (int i = 0; i < EXTENSIONS_MAX && is_extension(next); i++) {
		size_t size = has(c, 8) ? ((size_t)c->frame[c->at + 1] + 1) * 8 : 8;

		if (!has(c, size))
			return;
		next = c->frame[c->at];
		c->at += size;
	}
	if (is_extension(next) || next == IPPROTO_FRAGMENT)
		return;
	p->protocol = next;
	p->transport = c->at;
	p->pseudo_sum = pseudo_sum(ip + 8, 32, next, c->len - c->at);
}

static void read_tcp(const struct cursor *c, struct packet *p)
{
	const uint8_t *tcp = c->frame + c->at;
	size_t header;

	if (!has(c, TCP_HEADER))
		return;
	header = (size_t)(tcp[12] >> 4) * 4;
	if (header < TCP_HEADER || !has(c, header))
		return;
	p->payload = p->transport + header;
	p->checksum_at = 16;
	p->checksum = get_u16(tcp + 16);
	p->has_cwr = tcp[13] & TCP_CWR;
}

static void read_udp(const struct cursor *c, struct packet *p)
{
	const uint8_t *udp = c->frame + c->at;

	if (!has(c, UDP_HEADER) || get_u16(udp + 6) == 0)
		return;
	p->payload = p->transport + UDP_HEADER;
	p->checksum_at = 6;
	p->checksum = get_u16(udp + 6);
}

void packet_parse(const uint8_t *frame, size_t len, struct packet *ret)
{
	struct cursor c = { .frame = frame, .len = len };
	uint16_t type = read_ethernet(&c);

	memset(ret, 0, sizeof(*ret));
	if (type == ETHERTYPE_IP)
		read_ipv4(&c, ret);
	else if (type == ETHERTYPE_IPV6)
		read_ipv6(&c, ret);
	if (ret->protocol == IPPROTO_TCP)
		read_tcp(&c, ret);
	else if (ret->protocol == IPPROTO_UDP)
		read_udp(&c, ret);
}
