/*
 * frame_reader.h - frames out of bytes that come in any pieces
 *
 * The reader says where the next bytes belong and how many it can take; the
 * caller puts them there, from wherever it has them. One buffer serves every
 * frame; it is grown to a payload's length only after the header was checked.
 *
 *	for (;;) {
 *		size_t size;
 *		void *place = frame_reader_space(reader, &size);
 *		ssize_t n = read(sock, place, size);
 *		... n == 0: the end, in order only if frame_reader_is_idle(reader)
 *		r = frame_reader_advance(reader, (size_t)n, err);
 *		if (r < 0)
 *			return r;
 *		if (r == 1)
 *			handle(frame_reader_frame(reader), frame_reader_payload(reader));
 *	}
 *
 * size is never more than what is missing of the present frame, so a frame
 * ends where the caller stops reading: nothing is read ahead.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"
#include "proto/frame.h"

struct frame_reader;

int frame_reader_new(struct frame_reader **ret, struct error *err);
void frame_reader_free(struct frame_reader *reader);
DEFINE_CLEANUP(struct frame_reader *, frame_reader_free)

/* Where the next bytes go; *ret_size is at least 1. Ends the validity of the
 * last frame's payload. */
void *frame_reader_space(struct frame_reader *reader, size_t *ret_size);

/* n bytes (at most the size that was offered) are in place. Returns 0 when the
 * frame needs more, 1 when it is complete and its checksum holds, -EPROTO when
 * the peer must be hung up on (the reader is then of no more use), -ENOMEM. */
int frame_reader_advance(struct frame_reader *reader, size_t n, struct error *err);

/* Of the complete frame; borrowed, until the next frame_reader_space. The
 * payload is not NULL, also when it is empty. */
const struct frame *frame_reader_frame(const struct frame_reader *reader);
const void *frame_reader_payload(const struct frame_reader *reader);

/* True between two frames: the peer may hang up here without a loss. */
bool frame_reader_is_idle(const struct frame_reader *reader);
