#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "migrate/state.h"

#define TO(s) (1U << MIGRATE_##s)

static const struct {
	const char *name;
	uint32_t next;
} states[MIGRATE_STATE_MAX_] = {
	[MIGRATE_IDLE]        = { "idle",        TO(NEGOTIATE) },
	[MIGRATE_NEGOTIATE]   = { "negotiate",   TO(PREPARE) | TO(ABORTING) },
	[MIGRATE_PREPARE]     = { "prepare",     TO(PRECOPY) | TO(ABORTING) },
	[MIGRATE_PRECOPY]     = { "precopy",     TO(FROZEN) | TO(ABORTING) },
	[MIGRATE_FROZEN]      = { "frozen",      TO(HANDOVER) | TO(ABORTING) },
	[MIGRATE_HANDOVER]    = { "handover",    TO(DONE) | TO(IN_DOUBT) | TO(ABORTING) },
	[MIGRATE_DONE]        = { "done",        0 },
	[MIGRATE_ABORTING]    = { "aborting",    TO(ROLLED_BACK) },
	[MIGRATE_ROLLED_BACK] = { "rolled-back", 0 },
	[MIGRATE_IN_DOUBT]    = { "in-doubt",    0 },
};

const char *migrate_state_name(enum migrate_state s)
{
	return states[s].name;
}

bool migrate_state_may(enum migrate_state from, enum migrate_state to)
{
	return states[from].next & (1U << to);
}

void migrate_state_set(enum migrate_state *s, enum migrate_state to)
{
	if (!migrate_state_may(*s, to)) {
		(void)fprintf(stderr, "BUG: migration %s -> %s\n", migrate_state_name(*s),
			      migrate_state_name(to));
		abort();
	}
	*s = to;
}
