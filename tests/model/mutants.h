/*
 * mutants.h - the protocol with one mistake each, which the model must find
 */
#pragma once

#include "tests/model/explore.h"

struct mutant {
	const char *name;		/* the mistake, in words */
	struct protocol_rule rows[3];	/* instead of the table's with that state and event */
	size_t n_rows;
	bool believes_strangers;
	enum broken broken;		/* what comes of it; WHOLE: that something never settles */
};

extern const struct mutant mutants[];
extern const size_t n_mutants;
