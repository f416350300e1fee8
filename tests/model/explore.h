/*
 * explore.h - all worlds that can come of one
 *
 * Breadth first, so that the first broken world found is as near as any. For
 * the question whether everything settles once nothing fails any more, the steps
 * that happen by themselves are followed backwards from the settled worlds.
 */
#pragma once

#include <stdio.h>

#include "tests/model/world.h"

struct explored {
	size_t worlds, steps, settled;
	enum broken broken;		/* of the first broken world; WHOLE: there is none */
	size_t stuck;			/* worlds from which no settled one is reached */
};

/* Ends at the first broken world. With trace (may be NULL) it says how it comes
 * to that one, or to a stuck one. */
struct explored explore(const struct rules *rules, FILE *trace);
