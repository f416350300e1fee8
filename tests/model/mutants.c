#include "tests/model/mutants.h"

#define DO(...) { __VA_ARGS__ }
#define S(state, event, actions, next) { SOURCE_##state, EVENT_##event, ACTOR_COMMAND, actions, SOURCE_##next }
#define T(state, event, actions, next) { TARGET_##state, EVENT_##event, ACTOR_WORKER, actions, TARGET_##next }
#define ROWS(n, ...) .rows = { __VA_ARGS__ }, .n_rows = n

const struct mutant mutants[] = {
	{ "the target resumes before its decision is durable",
	  ROWS(1, T(INCOMING, COMMIT, DO(ACTION_THAW_COPY, ACTION_DECIDE_RESUMED, ACTION_RECORD_RUNNING,
					 ACTION_TELL_RESUMED), RESUMED)), .broken = UNTRUE_ANSWER },
	{ "the source thaws when the target falls silent after the decision",
	  ROWS(1, S(DECIDED, LINK_LOST, DO(ACTION_REMOVE_DECISION, ACTION_THAW), RUNS)), .broken = TWO_COPIES },
	{ "the target forgets its record before it is acknowledged",
	  ROWS(1, T(RESUMED, SYNC, DO(ACTION_SYNC_FILES, ACTION_REMOVE_MARK, ACTION_FORGET, ACTION_TELL_SYNCED),
		    NOTHING)), .broken = TWO_COPIES },
	{ "the source removes the original before the target's files are durable",
	  ROWS(1, S(DECIDED, TOLD_RESUMED, DO(ACTION_WRITE_RELEASE, ACTION_DESTROY, ACTION_SEND_RELEASE), OWES)),
	  .broken = REMOVED_TOO_EARLY },
	{ "a node that has only the same name is believed", .believes_strangers = true, .broken = TWO_COPIES },

	{ "the source's monitor thaws in spite of a decision",
	  ROWS(1, S(DECIDED, OWNER_DIED, DO(ACTION_THAW), RUNS)), .broken = TWO_COPIES },
	{ "COMMIT is sent before the decision is written",
	  ROWS(1, S(FROZEN, RESTORED, DO(ACTION_SEND_COMMIT, ACTION_WRITE_DECISION), DECIDED)), .broken = TWO_COPIES },
	{ "a refusal is answered and not written",
	  ROWS(1, T(INCOMING, QUERY, DO(ACTION_TELL_REFUSED), INCOMING)), .broken = UNTRUE_ANSWER },
	{ "the target is released before the original is gone",
	  ROWS(2, S(HANDED_OVER, TOLD_SYNCED, DO(ACTION_WRITE_RELEASE, ACTION_SEND_RELEASE, ACTION_DESTROY), OWES),
	       S(DECIDED, TOLD_SYNCED, DO(ACTION_WRITE_RELEASE, ACTION_SEND_RELEASE, ACTION_DESTROY), OWES)),
	  .broken = REMOVED_TOO_EARLY },
	{ "the target is released while the removal may come back with a loss of power",
	  ROWS(1, S(OWES, ASK, DO(ACTION_SEND_RELEASE), OWES)), .broken = UNTRUE_ANSWER },
	{ "the target says SYNCED, and then syncs",
	  ROWS(1, T(RESUMED, SYNC, DO(ACTION_WRITE_SYNCED, ACTION_TELL_SYNCED, ACTION_SYNC_FILES, ACTION_REMOVE_MARK),
		    SYNCED)), .broken = NO_COPY },
	{ "SYNCED is answered from a record that is not on disk",
	  ROWS(1, T(SYNCED, QUERY, DO(ACTION_TELL_SYNCED), SYNCED)), .broken = REMOVED_TOO_EARLY },
	{ "RESUMED is answered from a record that is not on disk",
	  ROWS(1, T(RESUMED, QUERY, DO(ACTION_TELL_RESUMED), RESUMED)), .broken = WHOLE },
	{ "the mark goes before it is synced",
	  ROWS(1, T(RESUMED, SYNC, DO(ACTION_SYNC_FILES, ACTION_REMOVE_MARK, ACTION_WRITE_SYNCED, ACTION_TELL_SYNCED),
		    SYNCED)), .broken = TWO_COPIES },
	{ "the record is forgotten while the mark is there",
	  ROWS(1, T(SYNCED, RELEASE, DO(ACTION_FORGET, ACTION_TELL_FORGOTTEN), NOTHING)), .broken = NO_COPY },
	{ "what the restorer had decided to resume is swept away",
	  ROWS(1, T(RESUMED, SWEEP, DO(ACTION_KILL_COPY, ACTION_REMOVE_FOLDER), RESUMED)),
	  .broken = KILLED_WHAT_RAN },
	{ "what a crash has lost is answered to be on disk",
	  ROWS(1, T(LOST, QUERY, DO(ACTION_TELL_SYNCED), LOST)), .broken = REMOVED_TOO_EARLY },
	{ "what a crash has lost is answered to have been refused",
	  ROWS(1, T(LOST, QUERY, DO(ACTION_TELL_REFUSED), LOST)), .broken = UNTRUE_ANSWER },
	{ "nobody remembers what the target may forget",
	  ROWS(2, S(DECIDED, TOLD_SYNCED, DO(ACTION_DESTROY, ACTION_SEND_RELEASE), OWES),
	       S(HANDED_OVER, TOLD_SYNCED, DO(ACTION_DESTROY, ACTION_SEND_RELEASE), OWES)), .broken = WHOLE },
};
const size_t n_mutants = sizeof(mutants) / sizeof(*mutants);
