#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <linux/virtio_net.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "engine/network/gate.h"
#include "engine/network/injector.h"
#include "engine/network/packet.h"

#define ETHERNET 14

/* A frame under construction. */
struct sample {
	uint8_t data[2000];
	uint32_t len;
};

static void put(struct sample *s, const void *data, size_t len)
{
	assert_true(s->len + len <= sizeof(s->data));
	memcpy(s->data + s->len, data, len);
	s->len += (uint32_t)len;
}

static void put_ethernet(struct sample *s, uint16_t type)
{
	const uint8_t header[ETHERNET] = { 2, 0x67, 10, 0, 0, 7, 2, 0x67, 10, 0, 0, 1,
					   (uint8_t)(type >> 8), (uint8_t)type };

	put(s, header, sizeof(header));
}

static void put_ipv4(struct sample *s, uint8_t protocol, uint16_t payload, uint16_t fragment)
{
	const uint16_t total = (uint16_t)(20 + payload);
	const uint8_t header[20] = { 0x45, 0, (uint8_t)(total >> 8), (uint8_t)total, 0, 0,
				     (uint8_t)(fragment >> 8), (uint8_t)fragment, 64, protocol, 0, 0,
				     10, 0, 0, 1, 10, 0, 0, 7 };

	put(s, header, sizeof(header));
}

static void put_ipv6(struct sample *s, uint8_t next, uint16_t payload)
{
	const uint8_t header[40] = { 0x60, 0, 0, 0, (uint8_t)(payload >> 8), (uint8_t)payload, next,
				     64, 0xfd, [23] = 1, [24] = 0xfd, [39] = 7 };

	put(s, header, sizeof(header));
}

static void put_tcp(struct sample *s, uint16_t checksum, uint8_t flags, size_t payload)
{
	const uint8_t header[20] = { 0x1b, 0x5f, 0x1b, 0x5f, [12] = 0x50, flags, 0xff, 0xff,
				     (uint8_t)(checksum >> 8), (uint8_t)checksum };
	const uint8_t bytes[1400] = { 'g', 'o', 'd', 'w', 'i', 't' };

	put(s, header, sizeof(header));
	put(s, bytes, payload);
}

static void put_udp(struct sample *s, uint16_t checksum, size_t payload)
{
	const uint8_t header[8] = { 0x1b, 0x5f, 0x1b, 0x5f, 0, (uint8_t)(8 + payload),
				    (uint8_t)(checksum >> 8), (uint8_t)checksum };
	const uint8_t bytes[100] = { 'g', 'o' };

	put(s, header, sizeof(header));
	put(s, bytes, payload);
}

static int describe(const struct sample *s, uint32_t gso_bytes, struct virtio_net_hdr *ret)
{
	const struct gate_frame f = { .data = s->data, .len = s->len, .gso_bytes = gso_bytes };
	struct error err;

	return injector_describe(&f, ret, &err);
}

/* The pseudo header's sum by hand: 10.0.0.1, 10.0.0.7, protocol, length. */
#define PSEUDO4(protocol, len) (0x0a00 + 0x0001 + 0x0a00 + 0x0007 + (protocol) + (len))
/* fd00::1, fd00::7, next header, length; folded: it carries */
#define PSEUDO6(protocol, len) (0xfd00 + 0x0001 + 0xfd00 + 0x0007 + (protocol) + (len) - 0xffff)

static void checksum_that_is_missing_is_asked_for(void **state)
{
	struct virtio_net_hdr h;
	struct sample s = { 0 };

	(void)state;
	put_ethernet(&s, 0x0800);
	put_ipv4(&s, IPPROTO_TCP, 26, 0x4000);
	put_tcp(&s, PSEUDO4(6, 26), 0x18, 6);
	assert_int_equal(describe(&s, 0, &h), 0);
	assert_int_equal(h.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(h.gso_type, VIRTIO_NET_HDR_GSO_NONE);
	assert_int_equal(h.csum_start, 34);
	assert_int_equal(h.csum_offset, 16);

	s.data[50] ^= 1;	/* any other checksum is complete, or wrong */
	assert_int_equal(describe(&s, 0, &h), 0);
	assert_int_equal(h.flags, 0);

	s = (struct sample){ 0 };
	put_ethernet(&s, 0x86dd);
	put_ipv6(&s, IPPROTO_UDP, 12);
	put_udp(&s, (uint16_t)PSEUDO6(17, 12), 4);
	assert_int_equal(describe(&s, 0, &h), 0);
	assert_int_equal(h.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(h.csum_start, 54);
	assert_int_equal(h.csum_offset, 6);
}

static void headers_on_the_way_are_passed(void **state)
{
	static const uint8_t tag[] = { 0x00, 0x07, 0x08, 0x00 };
	static const uint8_t options[16] = { IPPROTO_TCP, 1 };
	struct virtio_net_hdr h;
	struct sample s = { 0 };
	struct packet p;

	(void)state;
	put_ethernet(&s, 0x8100);
	put(&s, tag, sizeof(tag));
	put_ipv4(&s, IPPROTO_UDP, 12, 0);
	put_udp(&s, PSEUDO4(17, 12), 4);
	assert_int_equal(describe(&s, 0, &h), 0);
	assert_int_equal(h.csum_start, 38);

	s = (struct sample){ 0 };
	put_ethernet(&s, 0x86dd);
	put_ipv6(&s, IPPROTO_HOPOPTS, 16 + 20);
	put(&s, options, sizeof(options));
	put_tcp(&s, (uint16_t)PSEUDO6(6, 20), 0x10, 0);
	assert_int_equal(describe(&s, 0, &h), 0);
	assert_int_equal(h.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(h.csum_start, 70);

	/* padding up to Ethernet's least length is no part of the packet */
	s = (struct sample){ 0 };
	put_ethernet(&s, 0x0800);
	put_ipv4(&s, IPPROTO_UDP, 8, 0);
	put_udp(&s, PSEUDO4(17, 8), 18);
	packet_parse(s.data, s.len, &p);
	assert_int_equal(p.pseudo_sum, p.checksum);
}

static void fragments_are_left_alone(void **state)
{
	struct virtio_net_hdr h;
	struct sample s = { 0 };

	(void)state;
	put_ethernet(&s, 0x0800);
	put_ipv4(&s, IPPROTO_UDP, 12, 0x2000);
	put_udp(&s, PSEUDO4(17, 12), 4);
	assert_int_equal(describe(&s, 0, &h), 0);
	assert_int_equal(h.flags, 0);
	assert_int_equal(describe(&s, 500, &h), -EPROTO);
	s = (struct sample){ 0 };
	put_ethernet(&s, 0x0800);
	put_ipv4(&s, IPPROTO_UDP, 12, 0);
	put_udp(&s, 0, 4);	/* has no checksum, and needs none */
	assert_int_equal(describe(&s, 0, &h), 0);
	assert_int_equal(h.flags, 0);
}

static void segments_are_described(void **state)
{
	struct virtio_net_hdr h;
	struct sample s = { 0 };

	(void)state;
	put_ethernet(&s, 0x0800);
	put_ipv4(&s, IPPROTO_TCP, 1420, 0x4000);
	put_tcp(&s, PSEUDO4(6, 1420), 0x98, 1400);	/* CWR is set */
	assert_int_equal(describe(&s, 700, &h), 0);
	assert_int_equal(h.gso_type, VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN);
	assert_int_equal(h.gso_size, 700);
	assert_int_equal(h.hdr_len, 54);
	assert_int_equal(h.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);

	s = (struct sample){ 0 };
	put_ethernet(&s, 0x86dd);
	put_ipv6(&s, IPPROTO_TCP, 1420);
	put_tcp(&s, (uint16_t)PSEUDO6(6, 1420), 0x18, 1400);
	assert_int_equal(describe(&s, 700, &h), 0);
	assert_int_equal(h.gso_type, VIRTIO_NET_HDR_GSO_TCPV6);
	assert_int_equal(describe(&s, 65535, &h), -EPROTO);
	assert_int_equal(describe(&s, UINT32_MAX, &h), -EPROTO);
}

static void what_makes_no_sense_is_refused(void **state)
{
	struct virtio_net_hdr h;
	struct sample s = { 0 };

	(void)state;
	put_ethernet(&s, 0x0806);
	assert_int_equal(describe(&s, 0, &h), -EPROTO);	/* nothing behind the header */
	put(&s, "arp", 4);
	assert_int_equal(describe(&s, 0, &h), 0);
	assert_int_equal(describe(&s, 100, &h), -EPROTO);
	s.len = GATE_FRAME_MAX + 1;
	assert_int_equal(describe(&s, 0, &h), -EPROTO);
	s.len = 0;
	assert_int_equal(describe(&s, 0, &h), -EPROTO);
}

/* Every prefix of a packet, in memory of just that size. */
static void cut_short_nothing_is_read_beyond(void **state)
{
	struct sample s = { 0 };

	(void)state;
	put_ethernet(&s, 0x86dd);
	put_ipv6(&s, IPPROTO_HOPOPTS, 16 + 20 + 6);
	put(&s, (const uint8_t[16]){ IPPROTO_TCP, 1 }, 16);
	put_tcp(&s, 1, 0x10, 6);
	for (size_t len = 0; len <= s.len; len++) {
		uint8_t *exact = malloc(len + !len);
		struct packet p;

		assert_non_null(exact);
		memcpy(exact, s.data, len);
		packet_parse(exact, len, &p);
		assert_int_equal(p.family, len < s.len ? 0 : AF_INET6);
		assert_int_equal(p.checksum_at, len < s.len ? 0 : 16);
		free(exact);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checksum_that_is_missing_is_asked_for),
		cmocka_unit_test(headers_on_the_way_are_passed),
		cmocka_unit_test(fragments_are_left_alone),
		cmocka_unit_test(segments_are_described),
		cmocka_unit_test(what_makes_no_sense_is_refused),
		cmocka_unit_test(cut_short_nothing_is_read_beyond),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
