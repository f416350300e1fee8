/*
 * state.h - where a migration is, seen from the source
 *
 *   IDLE -> NEGOTIATE -> PREPARE -> PRECOPY -> FROZEN -> HANDOVER -> DONE
 *               |           |          |         |          |
 *               +-----------+----------+---------+          +-> IN_DOUBT (frozen; ask)
 *                           |                               |
 *                           v                               |
 *                        ABORTING <-------------------------+   (the target refused)
 *                           |
 *                           v
 *                      ROLLED_BACK (the container runs at the source)
 */
#pragma once

#include <stdbool.h>

enum migrate_state {
	MIGRATE_IDLE,
	MIGRATE_NEGOTIATE,	/* may it go there? */
	MIGRATE_PREPARE,	/* the target makes everything but the processes */
	MIGRATE_PRECOPY,	/* memory goes, round after round, while it runs */
	MIGRATE_FROZEN,		/* stopped at the source: downtime runs */
	MIGRATE_HANDOVER,	/* decided and written: the target may run it */
	MIGRATE_DONE,
	MIGRATE_ABORTING,
	MIGRATE_ROLLED_BACK,
	MIGRATE_IN_DOUBT,
	MIGRATE_STATE_MAX_,
};

const char *migrate_state_name(enum migrate_state s);
bool migrate_state_may(enum migrate_state from, enum migrate_state to);

/* The only writer of a migration's state; aborts on an illegal step. */
void migrate_state_set(enum migrate_state *s, enum migrate_state to);
