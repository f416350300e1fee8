/*
 * past_downtimes.h - what the last moves from a node teach about the next one's downtime
 *
 * Of each: how much memory there was, what freeze, dump, restore and commit cost
 * besides the last round, and how long it took from the decision to the freeze.
 * The cost is taken as a + b * memory, by least squares in which the last moves
 * weigh most; what a node without any past expects weighs a little, so that moves
 * of one size only don't say anything of b. Pure arithmetic, no I/O.
 *
 *	past_downtimes_parse(&past, text);		of the cache file
 *	expected = past_downtimes_expect(&past, memory_bytes);
 *	... the move ...
 *	past_downtimes_add(&past, &seen);
 *	n = past_downtimes_format(&past, text);
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { PAST_DOWNTIMES_MAX = 12, PAST_DOWNTIMES_TEXT = PAST_DOWNTIMES_MAX * 64 };

struct past_downtime {
	uint64_t memory_bytes;
	uint64_t fixed_us;		/* the downtime without the last round */
	uint64_t lead_us;		/* from the decision to the freeze */
};

struct past_downtimes {
	size_t n;
	struct past_downtime at[PAST_DOWNTIMES_MAX];	/* the oldest first */
};

/* What isn't three numbers a line, or beyond reason, is left out. */
void past_downtimes_parse(struct past_downtimes *past, const char *text);

/* Writes at most PAST_DOWNTIMES_TEXT bytes with the end; returns the length. */
size_t past_downtimes_format(const struct past_downtimes *past, char *text);

/* The oldest goes when there is no room. */
void past_downtimes_add(struct past_downtimes *past, const struct past_downtime *seen);

/* What to expect of a container with so much memory. */
struct past_downtime past_downtimes_expect(const struct past_downtimes *past, uint64_t memory_bytes);
