/*
 * held.h - what is inside a HELD tree: network frames for the container
 *
 * Records, whole ones in each block (one DATA frame, unpacked): a head of 8
 * bytes, little-endian, and an Ethernet frame.
 *
 *	offset	size
 *	0	4	length of the frame
 *	4	4	0, or the payload of each segment that it is to be cut into
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "engine/base/error.h"

#define HELD_HEAD_BYTES 8u
#define HELD_FRAME_MIN 14u			/* an Ethernet header */
#define HELD_FRAME_MAX (65536u + 64u)

struct held {
	uint32_t len;
	uint32_t gso_bytes;
	const uint8_t *data;			/* into the block */
};

void held_encode_head(const struct held *h, uint8_t ret[HELD_HEAD_BYTES]);

/* The next record of block (len bytes) at *at, which moves behind it. Returns 0;
 * 1 at the end of the block; -EPROTO. */
int held_decode(const void *block, size_t len, size_t *at, struct held *ret, struct error *err);
