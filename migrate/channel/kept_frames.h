/*
 * kept_frames.h - frames that the peer may not have yet, to be sent again on a
 * new connection
 *
 * A ring of bytes of fixed size with whole frames in it, counted from 1. A frame
 * is made where it will lie: kept_frames_room is a place for any frame that fits
 * into a block, kept_frames_add says how long it has become. What the peer has
 * confirmed makes room again. No I/O.
 *
 *	place = kept_frames_room(k);		NULL: wait for a confirmation
 *	... header and payload at place ...
 *	kept_frames_add(k, len);
 *	r = kept_frames_confirm(k, received, err);
 *	for (n = ...; kept_frames_get(k, n, &frame, &len); n++)
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"
#include "proto/wire.h"

/* The longest frame that is kept. */
#define KEPT_FRAME_MAX (WIRE_HEADER_BYTES + WIRE_DATA_MAX_BYTES)

struct kept_frames;

/* At least 4 * KEPT_FRAME_MAX bytes. */
int kept_frames_new(size_t bytes, struct kept_frames **ret, struct error *err);
void kept_frames_free(struct kept_frames *k);
DEFINE_CLEANUP(struct kept_frames *, kept_frames_free)

/* KEPT_FRAME_MAX bytes, or NULL when there is no room. The same place until the
 * next kept_frames_add. */
uint8_t *kept_frames_room(struct kept_frames *k);

/* The frame at kept_frames_room is len bytes long, at most KEPT_FRAME_MAX. */
void kept_frames_add(struct kept_frames *k, size_t len);

/* The peer has all frames up to the one with this number. -EPROTO when that is
 * less than it has said before, or more than there were. */
int kept_frames_confirm(struct kept_frames *k, uint64_t number, struct error *err);

/* The number of the oldest frame that is there, or would be. */
uint64_t kept_frames_first(const struct kept_frames *k);

/* False when there is none of this number. */
bool kept_frames_get(const struct kept_frames *k, uint64_t number, const uint8_t **ret, size_t *ret_len);
