/*
 * held.h - network frames that came for a container while it moved
 *
 * The source's gate keeps them (engine/gate.h), they travel as HELD trees, and
 * the target delivers them after the resume, in order (engine/injector.h). What
 * can't be delivered is lost, as on any network, and counted.
 */
#pragma once

#include "engine/gate.h"
#include "migrate/channel.h"

/* Of one side of one migration. */
struct held_frames {
	uint8_t *data;			/* records of proto/held.h */
	size_t len, size;
	uint64_t frames, lost;
};

void held_frames_free(struct held_frames *h);

/* Source: what the gate holds now, as one HELD tree; none at all sends nothing. */
int held_send(struct channel *ch, struct gate *gate, uint64_t *ret_frames, struct error *err);

/* Target: the HELD tree that has begun, kept until held_deliver. */
int held_receive(struct channel *ch, struct held_frames *h, struct error *err);

/* Target: to the container, through the host side of its pair; forgets them. */
void held_deliver(struct held_frames *h, const char *host_ifname);
