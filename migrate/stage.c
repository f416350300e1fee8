#include <errno.h>

#include "engine/base/clock.h"
#include "engine/base/fault.h"
#include "migrate/source.h"
#include "migrate/stage.h"
#include "migrate/target.h"

const struct migrate_stage migrate_stages[STAGE_MAX_] = {
	[STAGE_NEGOTIATE] = { "negotiate", MIGRATE_NEGOTIATE, source_negotiate, target_negotiate,
			      NULL, target_forget },
	[STAGE_PREPARE]   = { "prepare", MIGRATE_PREPARE, source_prepare, target_prepare,
			      NULL, target_tear_down },
	[STAGE_PRECOPY]   = { "precopy", MIGRATE_PRECOPY, source_precopy, target_precopy,
			      source_untrack, NULL },
	[STAGE_DUMP]      = { "dump", MIGRATE_FROZEN, source_dump, NULL,
			      source_thaw, NULL },
	[STAGE_TRANSFER]  = { "transfer", MIGRATE_FROZEN, source_transfer, target_transfer, NULL, NULL },
	[STAGE_RESTORE]   = { "restore", MIGRATE_FROZEN, source_await_restore, target_restore, NULL, NULL },
	[STAGE_COMMIT]    = { "commit", MIGRATE_HANDOVER, source_commit, target_commit,
			      NULL, NULL },
	[STAGE_SYNC]      = { "sync", MIGRATE_HANDOVER, source_sync, target_sync, NULL, NULL },
	[STAGE_RELEASE]   = { "release", MIGRATE_HANDOVER, source_release, target_release, NULL, NULL },
};

void stage_point_name(const char *side, const struct migrate_stage *stage, const char *when, char ret[48])
{
	(void)snprintf(ret, 48, "%s-%s-%s", side, stage->name, when);
}

static void stage_point(const char *side, const struct migrate_stage *stage, const char *when)
{
	char name[48];

	if (!fault_armed)
		return;
	stage_point_name(side, stage, when, name);
	fault_pass(name);
}

static void undo_source_from(const struct migrate_stage *table, struct source *s, int row)
{
	for (; row >= 0; row--) {
		if (!table[row].undo_source)
			continue;
		stage_point("source", &table[row], "undo");
		table[row].undo_source(s);
	}
}

static void undo_target_from(const struct migrate_stage *table, struct target *t, int row)
{
	for (; row >= 0; row--) {
		if (!table[row].undo_target)
			continue;
		stage_point("target", &table[row], "undo");
		table[row].undo_target(t);
	}
}

int stage_run_source(const struct migrate_stage table[STAGE_MAX_], struct source *s,
		     enum migrate_state *state, uint64_t times_us[STAGE_MAX_],
		     void (*begin)(struct source *s, enum stage_id stage), struct error *err)
{
	for (int row = 0; row < STAGE_MAX_; row++) {
		const struct migrate_stage *stage = &table[row];
		uint64_t t0 = clock_us();
		int r;

		if (!stage->source)
			continue;
		if (*state != stage->state)
			migrate_state_set(state, stage->state);
		if (begin)
			begin(s, (enum stage_id)row);
		stage_point("source", stage, "begin");
		r = stage->source(s, err);
		stage_point("source", stage, "end");
		times_us[row] = clock_us() - t0;
		if (r == 0)
			continue;
		(void)error_wrap(err, "%s", stage->name);
		/* Past the decision only the target can take it back (protocol.h), and
		 * past its last word nothing. */
		if (row > STAGE_SYNC || (row >= STAGE_COMMIT && r != -ECANCELED)) {
			migrate_state_set(state, MIGRATE_IN_DOUBT);
			return r;
		}
		migrate_state_set(state, MIGRATE_ABORTING);
		undo_source_from(table, s, row);
		migrate_state_set(state, MIGRATE_ROLLED_BACK);
		return r;
	}
	migrate_state_set(state, MIGRATE_DONE);
	return 0;
}

int stage_run_target(const struct migrate_stage table[STAGE_MAX_], struct target *t,
		     struct error *err)
{
	for (int row = 0; row < STAGE_MAX_; row++) {
		int r;

		if (!table[row].target)
			continue;
		stage_point("target", &table[row], "begin");
		r = table[row].target(t, err);
		stage_point("target", &table[row], "end");
		if (r == 0)
			continue;
		(void)error_wrap(err, "%s", table[row].name);
		if (row <= STAGE_COMMIT)
			undo_target_from(table, t, row);
		return r;
	}
	return 0;
}
