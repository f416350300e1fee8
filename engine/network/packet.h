/*
 * packet.h - where the transport header of an Ethernet frame is
 *
 * Reads Ethernet, up to two VLAN tags (802.1Q, 802.1ad), IPv4 (RFC 791) or IPv6
 * with its extension headers (RFC 8200), TCP (RFC 9293) or UDP (RFC 768).
 * Nothing is believed about the bytes; what isn't such a packet, or is a
 * fragment, has family or checksum_at 0. No I/O.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct packet {
	int family;		/* AF_INET, AF_INET6 or 0 */
	uint8_t protocol;	/* of the transport header; 0 when there is none */
	size_t transport;	/* offsets from the frame's first byte */
	size_t payload;		/* behind the TCP or UDP header */
	size_t checksum_at;	/* from transport; 0: not TCP or UDP, or UDP without one */
	uint16_t checksum;	/* as it stands there, in host order */
	uint16_t pseudo_sum;	/* folded, not inverted: RFC 1071, RFC 8200 section 8.1 */
	bool has_cwr;		/* TCP: RFC 3168 */
};

void packet_parse(const uint8_t *frame, size_t len, struct packet *ret);
