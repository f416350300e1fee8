/*
 * block.h - the payload of a DATA frame: a piece of a tree, compressed or not
 *
 * Each block stands for itself: raw bytes, or (WIRE_FLAG_ZSTD) exactly one zstd
 * frame (RFC 8878) that tells its content size and needs no dictionary. Blocks
 * share nothing, so that they can be packed and unpacked in any order by any
 * number of workers, one encoder or decoder each.
 *
 *	struct block block;
 *	r = block_encode(encoder, level, raw, n, room, sizeof(room), &block, err);
 *	r = frame_encode(WIRE_DATA, block.flags, block.data, block.len, head, err);
 *
 *	r = block_decode(decoder, frame->flags, payload, frame->length,
 *			 room, WIRE_RAW_MAX_BYTES, &block, err);
 *	... block.data, block.len are the raw bytes
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"
#include "proto/wire.h"

/* Borrowed bytes: they are the caller's input or in the caller's room. */
struct block {
	const void *data;
	size_t len;
	uint16_t flags;
};

#define BLOCK_LEVEL_STORE 0		/* don't compress */

struct block_encoder;
struct block_decoder;

int block_encoder_new(struct block_encoder **ret, struct error *err);
void block_encoder_free(struct block_encoder *encoder);
DEFINE_CLEANUP(struct block_encoder *, block_encoder_free)

int block_decoder_new(struct block_decoder **ret, struct error *err);
void block_decoder_free(struct block_decoder *decoder);
DEFINE_CLEANUP(struct block_decoder *, block_decoder_free)

/* The levels that block_encode takes: negative ones are faster than 1. */
int block_level_min(void);
int block_level_max(void);

/* raw has 1 to WIRE_DATA_MAX_BYTES bytes, room at least as many. What does not
 * shrink by a sixteenth stays raw: ret->data is then raw itself and room holds
 * nothing of use. The level may change with every call. -EINVAL for sizes and
 * levels out of range. */
int block_encode(struct block_encoder *encoder, int level, const void *raw, size_t raw_len,
		 void *room, size_t room_size, struct block *ret, struct error *err);

/* The reverse, of bytes from a stranger. Raw bytes are passed through without
 * a copy. -EPROTO for anything but one whole frame, and for more than room_size
 * or WIRE_RAW_MAX_BYTES of content, which is seen before a byte is unpacked. */
int block_decode(struct block_decoder *decoder, uint16_t flags, const void *payload,
		 size_t len, void *room, size_t room_size, struct block *ret,
		 struct error *err);
