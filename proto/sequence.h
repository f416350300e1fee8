/*
 * sequence.h - which message may come next, and from which side
 *
 * The table of sequence.c is the diagram at the head of wire.h. Both sides keep
 * one struct sequence for a connection and pass through it whatever they send
 * and whatever they receive, in the order in which they do so.
 *
 *	struct sequence sequence = SEQUENCE_INIT;
 *
 * Sending:
 *	r = sequence_step(&sequence, WIRE_SOURCE, WIRE_OFFER, &message, err);
 * Receiving: by the header before the payload is read, then by the content
 *	r = sequence_check(&sequence, WIRE_TARGET, frame.type, err);
 *	r = message_decode(frame.type, payload, frame.length, &message, err);
 *	r = sequence_step(&sequence, WIRE_TARGET, frame.type, &message, err);
 *
 * An ABORT of the target may cross the COMMIT of the source. Then the target,
 * which is done, refuses COMMIT, and the source refuses ABORT and is in doubt,
 * as after a broken connection: it asks with QUERY.
 */
#pragma once

#include <stdbool.h>

#include "engine/base/error.h"
#include "proto/message.h"
#include "proto/wire.h"

enum sequence_state {
	SEQUENCE_START,			/* nobody has spoken */
	SEQUENCE_SOURCE_GREETED,
	SEQUENCE_TARGET_GREETED,
	SEQUENCE_OPEN,			/* both have: OFFER, QUERY or RELEASE */
	SEQUENCE_ASKED,			/* QUERY waits for ANSWER */
	SEQUENCE_ANSWERED,		/* again, or RELEASE */
	SEQUENCE_TELLING,		/* NETWORK or PLACES waits for PLACES */
	SEQUENCE_TOLD,			/* again, or the end */
	SEQUENCE_ASKING,		/* the verdict will end it */
	SEQUENCE_JOINING,		/* JOIN waits for JOINED */
	SEQUENCE_JOINED,		/* a further one; or one whose sequence goes on here */
	SEQUENCE_IN_JOINED,
	SEQUENCE_OFFERED,
	SEQUENCE_IMAGE_WANTED,
	SEQUENCE_IN_IMAGE,		/* between TREE_BEGIN and TREE_END */
	SEQUENCE_PREPARING,		/* the target works */
	SEQUENCE_PREPARED,		/* the container still runs */
	SEQUENCE_IN_ROUND,
	SEQUENCE_FROZEN,
	SEQUENCE_IN_LAST_ROUND,
	SEQUENCE_IN_UPPER,
	SEQUENCE_HAS_UPPER,		/* TMPFS or CHECKPOINT */
	SEQUENCE_IN_TMPFS,
	SEQUENCE_IN_CHECKPOINT,
	SEQUENCE_HAS_CHECKPOINT,
	SEQUENCE_IN_META,
	SEQUENCE_HAS_META,
	SEQUENCE_RESTORING,
	SEQUENCE_RESTORED,		/* both copies are there, both frozen */
	SEQUENCE_IN_HELD,
	SEQUENCE_COMMITTED,		/* no ABORT from here on */
	SEQUENCE_RESUMED,
	SEQUENCE_IN_STRAGGLERS,
	SEQUENCE_SYNCED,
	SEQUENCE_IN_LAST_STRAGGLERS,
	SEQUENCE_LEAVING,
	SEQUENCE_LEFT,			/* either may hang up */
	SEQUENCE_IN_STRAYS,
	SEQUENCE_RELEASED,		/* after a question */
	SEQUENCE_DONE,			/* nothing may follow */
};

struct sequence {
	enum sequence_state state;
};
#define SEQUENCE_INIT { SEQUENCE_START }

/* Could a message of this type come from that side now? -EPROTO, and which ones
 * could, when not. */
int sequence_check(const struct sequence *sequence, enum wire_side from, enum wire_type type,
		   struct error *err);

/* Takes the step. message is NULL for DATA only; OFFER, VERDICT and
 * TREE_BEGIN are judged by what they say. On failure the state stays as it was. */
int sequence_step(struct sequence *sequence, enum wire_side from, enum wire_type type,
		  const struct message *message, struct error *err);

bool sequence_is_done(const struct sequence *sequence);
