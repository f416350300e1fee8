/*
 * frame.h - the header in front of every payload
 *
 *	offset	size
 *	0	4	magic		WIRE_MAGIC
 *	4	2	type		enum wire_type
 *	6	2	flags		WIRE_FLAG_*, only those that the type knows
 *	8	4	length		of the payload, in bytes
 *	12	4	checksum	over type, flags, length and payload
 *
 * all little-endian. The checksum is the low half of XXH3-64 of the payload,
 * seeded with the eight bytes of type, flags and length. It finds damage, not
 * malice: that is the secure channel's business.
 *
 * Sending:
 *	r = frame_encode(WIRE_DATA, block.flags, block.data, block.len, head, err);
 *	... writev(head, block.data)
 * Receiving, with a blocking descriptor (frame_reader.h does it in pieces):
 *	... read 16 bytes into head
 *	r = frame_decode(head, &frame, err);
 *	... read frame.length bytes into payload
 *	r = frame_verify(&frame, payload, err);
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "engine/base/error.h"
#include "proto/wire.h"

struct frame {
	enum wire_type type;
	uint16_t flags;
	uint32_t length;		/* within frame_max_length(type) */
	uint32_t checksum;
};

/* The longest payload of a type, in bytes. */
uint32_t frame_max_length(enum wire_type type);

/* Writes the header for this payload (which may be NULL when len is 0).
 * -EINVAL for a type, flag or length that the receiver would refuse. */
int frame_encode(enum wire_type type, uint16_t flags, const void *payload, size_t len,
		 uint8_t ret_head[WIRE_HEADER_BYTES], struct error *err);

/* Checks everything that can be known from the header, so that the caller may
 * then make room for ret->length bytes. -EPROTO names what is wrong. */
int frame_decode(const uint8_t head[WIRE_HEADER_BYTES], struct frame *ret, struct error *err);

/* payload has frame->length bytes. -EPROTO when the checksum differs. */
int frame_verify(const struct frame *frame, const void *payload, struct error *err);
