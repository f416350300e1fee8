/*
 * timeline.h - where the time goes while a container stands still
 *
 * Steps in a row, each with a name that says what has just ended:
 *
 *	timeline_begin(&t, clock_us());
 *	... freeze ...
 *	timeline_step(&t, "freeze");
 *	... dump ...
 *	timeline_step(&t, "dump");
 *
 * Plain data, which may go to another process of the same program. What is done
 * beside a step, by another process or node, has a line of its own.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "proto/message.h"

enum { TIMELINE_STEPS = MESSAGE_STEPS_MAX, TIMELINE_NAME = 24 };

struct timeline_step {
	char name[TIMELINE_NAME];
	uint64_t us;
};

struct timeline {
	uint64_t last_us;		/* clock_us */
	size_t n;
	struct timeline_step steps[TIMELINE_STEPS];
};

/* Empties it; time runs from then on (clock_us). */
void timeline_begin(struct timeline *t, uint64_t since_us);

/* The time since the step before was spent on name (as WIRE_NAME, and cut to
 * TIMELINE_NAME - 1); steps of one name count together, and what there is no room for
 * counts with the last step. t may be NULL: nobody wants to know. */
void timeline_step(struct timeline *t, const char *name);

/* The time since the last step was spent on the steps of more, by another process of this
 * machine, and the rest of it on what is around them. */
void timeline_append(struct timeline *t, const struct timeline *more, const char *around);

/* From and to what a message holds; a message's steps borrow those of t. */
size_t timeline_to_message(const struct timeline *t, struct message_step ret[MESSAGE_STEPS_MAX]);
void timeline_from_message(const struct message_step *steps, size_t n, struct timeline *ret);
