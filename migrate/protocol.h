/*
 * protocol.h - who runs a container that moves: both sides' decisions, as one table
 *
 * At no moment do two copies run, and at no moment is there none that runs or can
 * be resumed, whichever process, machine or cable dies. protocol.c's table says
 * what each side does then: in a state, upon an event, these actions in this
 * order. The programs act by it (protocol_step), and tests/model explores all
 * that can come of it: every loss, doubling and reordering of a message, every
 * death of a process or a machine between any two actions.
 *
 *	source                                  target
 *	RUNS                                    NOTHING
 *	  | stand still                           | OFFER
 *	FROZEN                                  INCOMING (complete, frozen)
 *	  | RESTORED: the decision is written     | COMMIT, unless it was refused:
 *	DECIDED  ---------- COMMIT ---------->    |   "resumed" is written, it runs
 *	  |      <--------- RESUMED ----------  RESUMED
 *	HANDED_OVER                               | its files are on disk:
 *	  |                                       |   "synced" is written
 *	  |      <--------- SYNCED -----------  SYNCED
 *	  | the original is removed               |
 *	OWES     ---------- RELEASE --------->    | the record is forgotten
 *	  |      <--------- FORGOTTEN --------  NOTHING
 *	SETTLED
 *
 * Before the decision whoever fails gives up, and the original goes on. After it
 * the source only asks (QUERY), as often as it takes; what was not resumed when
 * the question comes is refused by it, and never will be: the target decides
 * once, by a record that can be made only once.
 *
 * What the target's machine may lose. Until SYNCED the original is kept, frozen,
 * with all its memory. If the target's machine crashes between RESUMED and
 * SYNCED, what ran there is lost with it; the target finds that out when it is
 * up again and answers LOST, and the original goes on from the moment at which
 * it was frozen, as if it had never moved. (Has the container volumes that it can
 * write, which both sides see, then they may be further than its memory is: it
 * stays frozen until an operator decides.) From SYNCED on a crash of the target's
 * machine is to the container what a crash of its machine always is: its memory
 * is gone, its files are there, and it can be started again.
 *
 * Durable records. "Written" means that it would survive a loss of power.
 *
 *   source  containers/NAME/handover.json	the decision: token, peer, node id. Written
 *		before COMMIT; gone with the original, or removed before that goes on.
 *		While it is there only an answer, or an operator, thaws the container.
 *   source  releases/TOKEN	what the target may forget: as handover.json. Written
 *		before that is removed; removed when the target says FORGOTTEN. Nobody
 *		acts on it while a decision with the same token is there.
 *   target  containers/NAME/token	the mark: this came by that migration, and is not on
 *		disk for sure. Written with the folder; removed after "synced" is written.
 *		What has a mark is neither started, moved on nor removed.
 *   target  tokens/TOKEN	"resumed BOOT": it runs, since this boot of the machine;
 *		written before its first instruction. After another boot it means: lost.
 *		"synced": the files, too, are there. Both are kept until RELEASE.
 *		"refused": it never will run here; may go when nothing has the mark.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "engine/base/error.h"
#include "proto/message.h"

enum protocol_state {
	SOURCE_RUNS,
	SOURCE_FROZEN,		/* by a lease; nothing is decided */
	SOURCE_DECIDED,		/* the target may have resumed it, or not; in doubt when it is silent */
	SOURCE_HANDED_OVER,	/* it has, and has not got the files on disk yet */
	SOURCE_OWES,		/* settled here; the target still keeps its record */
	SOURCE_SETTLED,

	TARGET_NOTHING,		/* no record; and no folder that has the mark */
	TARGET_INCOMING,	/* no record, but such a folder */
	TARGET_REFUSED,
	TARGET_RESUMED,
	TARGET_SYNCED,
	TARGET_LOST,		/* resumed before the machine crashed */
	PROTOCOL_STATE_MAX_,
};

enum protocol_event {
	/* the source's */
	EVENT_STAND_STILL,	/* the rounds are over */
	EVENT_RESTORED,		/* message: complete at the target */
	EVENT_GIVE_UP,		/* anything failed, or somebody cancelled */
	EVENT_OWNER_DIED,	/* the command that had it frozen is gone */
	EVENT_LINK_LOST,
	EVENT_ASK,		/* (again) over a new connection */
	EVENT_TOLD_RESUMED,	/* RESUMED, or ANSWER with that; and so on */
	EVENT_TOLD_SYNCED,
	EVENT_TOLD_REFUSED,
	EVENT_TOLD_LOST,
	EVENT_TOLD_BY_STRANGER,	/* ANSWER of a node with another id */
	EVENT_FORGOTTEN,
	EVENT_ORDER_RESUME,	/* an operator: run it here */
	EVENT_ORDER_GONE,	/* an operator: it runs there */

	/* the target's */
	EVENT_OFFER,
	EVENT_COMMIT,
	EVENT_HUNG_UP,		/* before COMMIT; or the restore failed */
	EVENT_QUERY,
	EVENT_RELEASE,
	EVENT_SYNC,		/* it runs: now its files */
	EVENT_SWEEP,		/* nobody works on it any more */
	PROTOCOL_EVENT_MAX_,
};

/* Who acts. Each is a process that may die between any two actions. */
enum protocol_actor {
	ACTOR_COMMAND,		/* migrate, resolve, serve's settler: holds the container's lock */
	ACTOR_LEASE,		/* the original's monitor, or whoever repairs in its place */
	ACTOR_WORKER,		/* the target's process that has the connection */
	ACTOR_RESTORER,		/* the copy's monitor */
	ACTOR_ANSWERER,		/* the target's process that is asked */
	ACTOR_SWEEPER,		/* the target's, when the restorer is dead */
	PROTOCOL_ACTOR_MAX_,
};

enum protocol_action {
	ACTION_NONE,
	/* the source's */
	ACTION_FREEZE,
	ACTION_THAW,
	ACTION_WRITE_DECISION,	/* durable */
	ACTION_REMOVE_DECISION,	/* durable */
	ACTION_WRITE_RELEASE,	/* durable: releases/TOKEN */
	ACTION_REMOVE_RELEASE,
	ACTION_DESTROY,		/* durable: the original, with its decision */
	ACTION_SYNC_REMOVAL,	/* the decision that is not there any more does not come back */

	/* the target's */
	ACTION_RESERVE,		/* durable: folder and mark */
	ACTION_RESTORE,		/* the copy is there, frozen */
	ACTION_DECIDE_RESUMED,	/* durable; fails when there is another record */
	ACTION_DECIDE_REFUSED,	/* the same */
	ACTION_THAW_COPY,
	ACTION_RECORD_RUNNING,	/* state.json */
	ACTION_SYNC_FILES,	/* durable: everything of the container */
	ACTION_WRITE_SYNCED,	/* durable */
	ACTION_REMOVE_MARK,	/* durable */
	ACTION_KILL_COPY,
	ACTION_REMOVE_FOLDER,
	ACTION_FORGET,		/* durable: the record */

	/* messages: last in a row, for they may be lost */
	ACTION_SEND_COMMIT,
	ACTION_SEND_QUERY,
	ACTION_SEND_RELEASE,
	ACTION_TELL_RESTORED,
	ACTION_TELL_RESUMED,	/* as RESUMED, or as ANSWER when there was a QUERY; and so on */
	ACTION_TELL_SYNCED,
	ACTION_TELL_REFUSED,
	ACTION_TELL_LOST,
	ACTION_TELL_FORGOTTEN,
	PROTOCOL_ACTION_MAX_,
};

#define PROTOCOL_ROW_ACTIONS 5

struct protocol_rule {
	enum protocol_state state;
	enum protocol_event event;
	enum protocol_actor by;
	enum protocol_action actions[PROTOCOL_ROW_ACTIONS];	/* to the first NONE */
	enum protocol_state next;
};

extern const struct protocol_rule protocol_rules[];
extern const size_t protocol_n_rules;

bool protocol_action_is_message(enum protocol_action action);
const char *protocol_state_name(enum protocol_state state);
const char *protocol_event_name(enum protocol_event event);
const char *protocol_action_name(enum protocol_action action);

/* NULL: in this state nothing comes of that event. */
const struct protocol_rule *protocol_find(const struct protocol_rule *rules, size_t n, enum protocol_state state,
					  enum protocol_event event);

/* Does what the table says; what is missing in does is another process's part.
 * *state is the next one as soon as all but the messages is done: an error
 * before that leaves it, one after that means that the peer didn't hear. */
typedef int (*protocol_do)(void *ctx, struct error *err);
int protocol_step(enum protocol_state *state, enum protocol_event event,
		  const protocol_do does[PROTOCOL_ACTION_MAX_], void *ctx, struct error *err);

/* What an answer means to the source: only the node that was asked to run it knows. */
enum protocol_event protocol_told(enum message_outcome outcome, bool by_that_node);
