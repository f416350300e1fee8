#include "engine/base/fault.h"
#include "migrate/protocol.h"

#define DO(...) { __VA_ARGS__ }
#define NOTHING { ACTION_NONE }
#define S(state, event, by, actions, next) \
	{ SOURCE_##state, EVENT_##event, ACTOR_##by, actions, SOURCE_##next }
#define T(state, event, by, actions, next) \
	{ TARGET_##state, EVENT_##event, ACTOR_##by, actions, TARGET_##next }

#define LET_GO DO(ACTION_WRITE_RELEASE, ACTION_DESTROY, ACTION_SEND_RELEASE)
#define TAKE_BACK DO(ACTION_WRITE_RELEASE, ACTION_REMOVE_DECISION, ACTION_THAW, ACTION_SEND_RELEASE)
#define CLEAR DO(ACTION_DECIDE_REFUSED, ACTION_KILL_COPY, ACTION_REMOVE_FOLDER)

const struct protocol_rule protocol_rules[] = {
	S(RUNS, STAND_STILL, COMMAND, DO(ACTION_FREEZE), FROZEN),
	S(FROZEN, RESTORED, COMMAND, DO(ACTION_WRITE_DECISION, ACTION_SEND_COMMIT), DECIDED),
	/* Also when the decision could not be written: half of it may be there. */
	S(FROZEN, GIVE_UP, COMMAND, DO(ACTION_REMOVE_DECISION, ACTION_THAW), RUNS),
	S(FROZEN, OWNER_DIED, LEASE, DO(ACTION_THAW), RUNS),

	S(DECIDED, OWNER_DIED, LEASE, NOTHING, DECIDED),
	S(DECIDED, LINK_LOST, COMMAND, NOTHING, DECIDED),
	S(DECIDED, ASK, COMMAND, DO(ACTION_SEND_QUERY), DECIDED),
	S(DECIDED, TOLD_BY_STRANGER, COMMAND, NOTHING, DECIDED),
	S(DECIDED, TOLD_RESUMED, COMMAND, NOTHING, HANDED_OVER),
	S(DECIDED, TOLD_SYNCED, COMMAND, LET_GO, OWES),
	S(DECIDED, TOLD_REFUSED, COMMAND, TAKE_BACK, OWES),
	S(DECIDED, TOLD_LOST, COMMAND, TAKE_BACK, OWES),
	S(DECIDED, ORDER_RESUME, COMMAND, TAKE_BACK, OWES),
	S(DECIDED, ORDER_GONE, COMMAND, LET_GO, OWES),

	S(HANDED_OVER, LINK_LOST, COMMAND, NOTHING, HANDED_OVER),
	S(HANDED_OVER, ASK, COMMAND, DO(ACTION_SEND_QUERY), HANDED_OVER),
	S(HANDED_OVER, TOLD_BY_STRANGER, COMMAND, NOTHING, HANDED_OVER),
	S(HANDED_OVER, TOLD_RESUMED, COMMAND, NOTHING, HANDED_OVER),
	S(HANDED_OVER, TOLD_SYNCED, COMMAND, LET_GO, OWES),
	S(HANDED_OVER, TOLD_LOST, COMMAND, TAKE_BACK, OWES),

	/* Who settled it may have died before that was on disk. */
	S(OWES, ASK, COMMAND, DO(ACTION_SYNC_REMOVAL, ACTION_SEND_RELEASE), OWES),
	S(OWES, FORGOTTEN, COMMAND, DO(ACTION_REMOVE_RELEASE), SETTLED),

	T(NOTHING, OFFER, WORKER, DO(ACTION_RESERVE, ACTION_RESTORE, ACTION_TELL_RESTORED), INCOMING),
	/* Whoever asks has decided, so nothing but a refusal is an answer. */
	T(NOTHING, QUERY, ANSWERER, DO(ACTION_DECIDE_REFUSED, ACTION_TELL_REFUSED), REFUSED),
	T(NOTHING, RELEASE, ANSWERER, DO(ACTION_FORGET, ACTION_TELL_FORGOTTEN), NOTHING),

	T(INCOMING, COMMIT, RESTORER, DO(ACTION_DECIDE_RESUMED, ACTION_THAW_COPY, ACTION_RECORD_RUNNING,
					 ACTION_TELL_RESUMED), RESUMED),
	T(INCOMING, HUNG_UP, RESTORER, CLEAR, REFUSED),
	T(INCOMING, QUERY, ANSWERER, DO(ACTION_DECIDE_REFUSED, ACTION_TELL_REFUSED), REFUSED),
	T(INCOMING, SWEEP, SWEEPER, DO(ACTION_DECIDE_REFUSED, ACTION_KILL_COPY, ACTION_REMOVE_FOLDER, ACTION_FORGET),
	  NOTHING),

	T(REFUSED, COMMIT, RESTORER, CLEAR, REFUSED),
	T(REFUSED, HUNG_UP, RESTORER, CLEAR, REFUSED),
	T(REFUSED, QUERY, ANSWERER, DO(ACTION_TELL_REFUSED), REFUSED),
	/* COMMIT may still be on its way to the restorer: the record stays. */
	T(REFUSED, RELEASE, ANSWERER, DO(ACTION_DECIDE_REFUSED, ACTION_TELL_FORGOTTEN), REFUSED),
	T(REFUSED, SWEEP, SWEEPER, DO(ACTION_KILL_COPY, ACTION_REMOVE_FOLDER, ACTION_FORGET), NOTHING),

	/* The restorer died after its decision, which may not be on disk yet. */
	T(RESUMED, SWEEP, SWEEPER, DO(ACTION_DECIDE_RESUMED, ACTION_THAW_COPY, ACTION_RECORD_RUNNING), RESUMED),
	T(RESUMED, SYNC, WORKER, DO(ACTION_SYNC_FILES, ACTION_WRITE_SYNCED, ACTION_REMOVE_MARK, ACTION_TELL_SYNCED),
	  SYNCED),
	T(RESUMED, QUERY, ANSWERER, DO(ACTION_DECIDE_RESUMED, ACTION_TELL_RESUMED), RESUMED),

	T(SYNCED, SWEEP, SWEEPER, DO(ACTION_WRITE_SYNCED, ACTION_REMOVE_MARK), SYNCED),
	/* Who wrote it may have died before it was on disk. */
	T(SYNCED, QUERY, ANSWERER, DO(ACTION_WRITE_SYNCED, ACTION_TELL_SYNCED), SYNCED),
	/* A folder with a mark and no record would be removed. */
	T(SYNCED, RELEASE, ANSWERER, DO(ACTION_REMOVE_MARK, ACTION_FORGET, ACTION_TELL_FORGOTTEN), NOTHING),

	T(LOST, SWEEP, SWEEPER, DO(ACTION_KILL_COPY, ACTION_REMOVE_FOLDER), LOST),
	T(LOST, QUERY, ANSWERER, DO(ACTION_TELL_LOST), LOST),
	T(LOST, RELEASE, ANSWERER, DO(ACTION_FORGET, ACTION_TELL_FORGOTTEN), NOTHING),
};
const size_t protocol_n_rules = sizeof(protocol_rules) / sizeof(*protocol_rules);

const char *protocol_state_name(enum protocol_state state)
{
	static const char *const names[] = {
		[SOURCE_RUNS] = "runs", [SOURCE_FROZEN] = "frozen", [SOURCE_DECIDED] = "decided",
		[SOURCE_HANDED_OVER] = "handed-over", [SOURCE_OWES] = "owes", [SOURCE_SETTLED] = "settled",
		[TARGET_NOTHING] = "nothing", [TARGET_INCOMING] = "incoming", [TARGET_REFUSED] = "refused",
		[TARGET_RESUMED] = "resumed", [TARGET_SYNCED] = "synced", [TARGET_LOST] = "lost",
	};

	return names[state];
}

const char *protocol_event_name(enum protocol_event event)
{
	static const char *const names[] = {
		[EVENT_STAND_STILL] = "stand-still", [EVENT_RESTORED] = "restored", [EVENT_GIVE_UP] = "give-up",
		[EVENT_OWNER_DIED] = "owner-died", [EVENT_LINK_LOST] = "link-lost", [EVENT_ASK] = "ask",
		[EVENT_TOLD_RESUMED] = "told-resumed", [EVENT_TOLD_SYNCED] = "told-synced",
		[EVENT_TOLD_REFUSED] = "told-refused", [EVENT_TOLD_LOST] = "told-lost",
		[EVENT_TOLD_BY_STRANGER] = "told-by-stranger", [EVENT_FORGOTTEN] = "forgotten",
		[EVENT_ORDER_RESUME] = "order-resume", [EVENT_ORDER_GONE] = "order-gone", [EVENT_OFFER] = "offer",
		[EVENT_COMMIT] = "commit", [EVENT_HUNG_UP] = "hung-up", [EVENT_QUERY] = "query",
		[EVENT_RELEASE] = "release", [EVENT_SYNC] = "sync", [EVENT_SWEEP] = "sweep",
	};

	return names[event];
}

const char *protocol_action_name(enum protocol_action action)
{
	static const char *const names[] = {
		[ACTION_NONE] = "none", [ACTION_FREEZE] = "freeze", [ACTION_THAW] = "thaw",
		[ACTION_WRITE_DECISION] = "write-decision", [ACTION_REMOVE_DECISION] = "remove-decision",
		[ACTION_WRITE_RELEASE] = "write-release", [ACTION_REMOVE_RELEASE] = "remove-release",
		[ACTION_DESTROY] = "destroy", [ACTION_SYNC_REMOVAL] = "sync-removal",
		[ACTION_RESERVE] = "reserve", [ACTION_RESTORE] = "restore",
		[ACTION_DECIDE_RESUMED] = "decide-resumed", [ACTION_DECIDE_REFUSED] = "decide-refused",
		[ACTION_THAW_COPY] = "thaw-copy", [ACTION_RECORD_RUNNING] = "record-running",
		[ACTION_SYNC_FILES] = "sync-files", [ACTION_WRITE_SYNCED] = "write-synced",
		[ACTION_REMOVE_MARK] = "remove-mark", [ACTION_KILL_COPY] = "kill-copy",
		[ACTION_REMOVE_FOLDER] = "remove-folder", [ACTION_FORGET] = "forget",
		[ACTION_SEND_COMMIT] = "send-commit", [ACTION_SEND_QUERY] = "send-query",
		[ACTION_SEND_RELEASE] = "send-release", [ACTION_TELL_RESTORED] = "tell-restored",
		[ACTION_TELL_RESUMED] = "tell-resumed", [ACTION_TELL_SYNCED] = "tell-synced",
		[ACTION_TELL_REFUSED] = "tell-refused", [ACTION_TELL_LOST] = "tell-lost",
		[ACTION_TELL_FORGOTTEN] = "tell-forgotten",
	};

	return names[action];
}

bool protocol_action_is_message(enum protocol_action action)
{
	return action >= ACTION_SEND_COMMIT;
}

const struct protocol_rule *protocol_find(const struct protocol_rule *rules, size_t n, enum protocol_state state,
					  enum protocol_event event)
{
	for (size_t i = 0; i < n; i++)
		if (rules[i].state == state && rules[i].event == event)
			return &rules[i];
	return NULL;
}

static int act(enum protocol_action action, const protocol_do does[PROTOCOL_ACTION_MAX_], void *ctx,
	       struct error *err)
{
	const char *name = protocol_action_name(action);

	if (!does[action])
		return 0;
	if (fault_point_of("act", name, err) < 0 || does[action](ctx, err) < 0)
		return -err->code;
	fault_pass_of("acted", name);
	return 0;
}

int protocol_step(enum protocol_state *state, enum protocol_event event,
		  const protocol_do does[PROTOCOL_ACTION_MAX_], void *ctx, struct error *err)
{
	const struct protocol_rule *rule = protocol_find(protocol_rules, protocol_n_rules, *state, event);

	for (size_t i = 0; rule && i < PROTOCOL_ROW_ACTIONS && rule->actions[i]; i++) {
		if (protocol_action_is_message(rule->actions[i]))
			*state = rule->next;
		if (act(rule->actions[i], does, ctx, err) < 0)
			return -err->code;
	}
	if (rule)
		*state = rule->next;
	return 0;
}

enum protocol_event protocol_told(enum message_outcome outcome, bool by_that_node)
{
	if (!by_that_node)
		return EVENT_TOLD_BY_STRANGER;
	switch (outcome) {
	case MESSAGE_OUTCOME_RESUMED:
		return EVENT_TOLD_RESUMED;
	case MESSAGE_OUTCOME_SYNCED:
		return EVENT_TOLD_SYNCED;
	case MESSAGE_OUTCOME_LOST:
		return EVENT_TOLD_LOST;
	case MESSAGE_OUTCOME_REFUSED:
		return EVENT_TOLD_REFUSED;
	}
	return EVENT_LINK_LOST;
}
