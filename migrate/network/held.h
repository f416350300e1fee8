/*
 * held.h - network frames that came for a container while it moved
 *
 * The source's gate keeps them (engine/network/gate.h), they travel as HELD trees, and
 * the target delivers them, in order (engine/network/injector.h). Neither side keeps more
 * than HELD_BYTES_MAX. What can't be kept or delivered is lost, as on any network.
 * All of that is counted.
 */
#pragma once

#include "engine/network/gate.h"
#include "migrate/channel/channel.h"

#define HELD_BYTES_MAX (2u * GATE_RING_BYTES)

/* Of one side of one migration. The source keeps what it has sent until it is
 * clear that the container will not go on there. */
struct held_frames {
	uint8_t *data;			/* records of proto/held.h */
	size_t len, size;
	size_t sent;			/* of len */
	uint64_t frames, bytes;		/* ever kept here */
	uint64_t no_room;		/* frames lost: beyond HELD_BYTES_MAX */
	uint64_t undelivered;		/* the same: refused */
};

void held_frames_free(struct held_frames *h);

/* Source: adds what the gate holds now. */
int held_take(struct gate *gate, struct held_frames *h, struct error *err);

/* Source: what was not sent yet, as one HELD tree. */
int held_send(struct channel *ch, struct held_frames *h, struct error *err);

/* Target: the HELD tree that has begun, kept until held_deliver. */
int held_receive(struct channel *ch, struct held_frames *h, struct error *err);

/* Delivers one frame: by a gate (gate_deliver) or an injector. */
typedef int held_way(void *ctx, const struct gate_frame *frame, struct error *err);

/* To the container, in order; empties the list. */
void held_deliver(struct held_frames *h, held_way *way, void *ctx);
