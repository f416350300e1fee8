/*
 * stage.h - the steps of a migration, one row each, both sides next to each other
 *
 * The table is in stage.c. Each side runs its own column from top to bottom;
 * the messages between them (proto/wire.h) keep the rows in step. When a step
 * fails before the decision is written, the undos of the rows entered so far
 * run from the bottom up; an undo may find its step half done or not begun. Where
 * a side has nothing to do in a row it goes on with the next.
 */
#pragma once

#include <stdint.h>

#include "engine/base/error.h"
#include "migrate/state.h"

struct source;
struct target;

enum stage_id {
	STAGE_NEGOTIATE,
	STAGE_PREPARE,
	STAGE_PRECOPY,
	STAGE_DUMP,
	STAGE_TRANSFER,
	STAGE_RESTORE,
	STAGE_COMMIT,
	STAGE_SYNC,
	STAGE_RELEASE,
	STAGE_MAX_,
};

struct migrate_stage {
	const char *name;
	enum migrate_state state;		/* of the source while it is in this row */
	int (*source)(struct source *s, struct error *err);
	int (*target)(struct target *t, struct error *err);
	void (*undo_source)(struct source *s);
	void (*undo_target)(struct target *t);
};

extern const struct migrate_stage migrate_stages[STAGE_MAX_];

/* The fault point of a side ("source", "target"): before a row ("begin"), after it, also when it has failed ("end"),
 * before its undo ("undo"). */
void stage_point_name(const char *side, const struct migrate_stage *stage, const char *when, char ret[48]);

/* Runs a column of a table: migrate_stages, or a test's. times_us[row] gets what each row took; begin (may be NULL) is
 * called before each. On failure *err says which stage failed, and the source's
 * state is ROLLED_BACK or IN_DOUBT. */
int stage_run_source(const struct migrate_stage table[STAGE_MAX_], struct source *s,
		     enum migrate_state *state, uint64_t times_us[STAGE_MAX_],
		     void (*begin)(struct source *s, enum stage_id stage), struct error *err);
int stage_run_target(const struct migrate_stage table[STAGE_MAX_], struct target *t,
		     struct error *err);
