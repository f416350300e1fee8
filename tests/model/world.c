/* What may happen next in a world, and what must never have happened. */
#include <stdio.h>
#include <string.h>

#include "tests/model/world.h"

/* A letter and the event that it is to whom it reaches. */
static const struct {
	enum letter letter;
	enum protocol_event event;
	const char *name;
} letters[] = {
	{ LETTER_RESTORED, EVENT_RESTORED, "RESTORED" }, { LETTER_RESUMED, EVENT_TOLD_RESUMED, "RESUMED" },
	{ LETTER_SYNCED, EVENT_TOLD_SYNCED, "SYNCED" }, { LETTER_REFUSED, EVENT_TOLD_REFUSED, "REFUSED" },
	{ LETTER_LOST, EVENT_TOLD_LOST, "LOST" }, { LETTER_FORGOTTEN, EVENT_FORGOTTEN, "FORGOTTEN" },
	{ LETTER_QUERY, EVENT_QUERY, "QUERY" }, { LETTER_RELEASE, EVENT_RELEASE, "RELEASE" },
	{ LETTER_COMMIT, EVENT_COMMIT, "COMMIT" },
};
#define N_LETTERS (sizeof(letters) / sizeof(*letters))
#define FIRST_OF_TARGET 6

struct world world_begin(void)
{
	return (struct world){
		.original = RUNNING, .folder = { 1, 1 }, .command = { .alive = 1 },
		.state = SOURCE_RUNS,
	};
}

const char *broken_name(enum broken b)
{
	static const char *const names[] = {
		[WHOLE] = "whole", [TWO_COPIES] = "two copies may run", [NO_COPY] = "no copy is left",
		[REMOVED_TOO_EARLY] = "the original is removed and the copy is not on disk",
		[KILLED_WHAT_RAN] = "the copy that had been resumed is killed",
		[UNTRUE_ANSWER] = "what has run there is answered to have been refused",
	};

	return names[b];
}

/* ---- judging ---- */

static bool has_mark(const struct world *w)
{
	return w->copy_folder.seen && w->mark.seen;
}

/* Not running, but somebody may start it: its files are whole and nothing forbids it. */
static bool copy_can_start(const struct world *w)
{
	return w->copy == NO_PROCESS && w->copy_folder.seen && w->says_running.seen && w->files &&
	       (!w->mark.seen || w->record.seen == SYNCED);
}

static bool copy_counts(const struct world *w)
{
	return w->copy == RUNNING || (w->copy == FROZEN && w->record.seen == RESUMED) || copy_can_start(w);
}

/* Nothing keeps it from running: it does, or its monitor thaws it, or somebody may start it. */
static bool original_may_run(const struct world *w)
{
	return w->original == RUNNING || (w->folder.seen && !w->decision.seen);
}

void world_judge(struct world *w)
{
	if (w->broken)
		return;
	if (original_may_run(w) && (copy_counts(w) || w->record.seen == RESUMED || w->record.seen == SYNCED))
		w->broken = TWO_COPIES;
	else if (!w->folder.seen && !copy_counts(w))
		w->broken = NO_COPY;
}

bool world_is_decided(const struct world *w)
{
	return (w->folder.seen || w->folder.disk) && (w->decision.seen || w->decision.disk);
}

static bool is_idle(const struct actor *a)
{
	return a->rule == 0;
}

bool world_is_settled(const struct world *w)
{
	return is_idle(&w->command) && is_idle(&w->worker) &&
	       is_idle(&w->restorer) && is_idle(&w->answerer) && is_idle(&w->sweeper) &&
	       w->original != FROZEN && !w->release.seen && w->record.seen == NO_RECORD && !has_mark(w) &&
	       original_may_run(w) != copy_counts(w) && w->copy != FROZEN;
}

enum protocol_state world_target_state(const struct world *w)
{
	static const enum protocol_state of[] = {
		[REFUSED] = TARGET_REFUSED, [RESUMED] = TARGET_RESUMED, [SYNCED] = TARGET_SYNCED, [LOST] = TARGET_LOST,
	};

	if (w->record.seen == NO_RECORD)
		return has_mark(w) ? TARGET_INCOMING : TARGET_NOTHING;
	return of[w->record.seen];
}

/* ---- finding what is next ---- */

/* What can never matter again makes no difference between worlds. */
static void tidy(struct world *w)
{
	unsigned dead = 0;

	if (!w->copy_folder.seen && !w->copy_folder.disk) {
		w->mark = w->says_running = (struct fact){ 0 };
		w->files = 0;
	}
	if (!w->command.alive)
		w->state = 0;
	if (!w->command.alive || (w->state != SOURCE_RUNS && w->state != SOURCE_FROZEN))
		dead |= LETTER_RESTORED;
	if (!w->restorer.alive && w->offered && !w->worker.rule)
		dead |= LETTER_COMMIT;
	if (!world_is_decided(w))
		dead |= LETTER_RESUMED | LETTER_SYNCED | LETTER_REFUSED | LETTER_LOST;
	if (!w->release.seen && !w->release.disk)
		dead |= LETTER_FORGOTTEN;
	w->letters = (uint16_t)(w->letters & ~dead);
}

static void found(struct visit *v, struct world *next, enum step_kind kind)
{
	tidy(next);
	world_judge(next);
	v->found(v, next, kind);
}

static void say(struct visit *v, const char *who, const char *what)
{
	(void)snprintf(v->what, sizeof(v->what), "%s: %s", who, what);
}

static struct actor *twin(struct world *next, const struct world *w, const struct actor *a)
{
	return (struct actor *)((char *)next + ((const char *)a - (const char *)w));
}

/* A waiting process gets an event: false when the table has nothing for it. */
static bool begin(const struct rules *rules, struct actor *a, enum protocol_state state,
		  enum protocol_event event)
{
	const struct protocol_rule *rule = protocol_find(rules->rows, rules->n, state, event);

	if (!rule)
		return false;
	a->alive = 1;
	a->rule = (uint8_t)(rule - rules->rows + 1);
	a->at = a->half = 0;
	return true;
}

static void end_row(struct world *w, const struct rules *rules, struct actor *a, bool whole)
{
	const struct protocol_rule *rule = &rules->rows[a->rule - 1];

	a->rule = a->at = a->half = 0;
	if (a == &w->command)
		w->state = whole ? rule->next : w->state;
	else if (a == &w->restorer)
		a->alive = !(whole && rule->next == TARGET_REFUSED);
	else if (a != &w->worker)
		a->alive = 0;
}

static void event(const struct world *w, const struct rules *rules, struct visit *v, const struct actor *who,
		  enum protocol_state state, enum protocol_event event, const char *name, enum step_kind kind)
{
	struct world next = *w;
	struct actor *a = twin(&next, w, who);

	if (!begin(rules, a, state, event))
		return;
	if (!rules->rows[a->rule - 1].actions[0])
		end_row(&next, rules, a, true);
	say(v, name, protocol_event_name(event));
	found(v, &next, kind);
}

static void ends(const struct world *w, struct visit *v, const struct actor *who, const char *name, const char *how,
		 enum step_kind kind)
{
	struct world next = *w;

	*twin(&next, w, who) = (struct actor){ 0 };
	say(v, name, how);
	found(v, &next, kind);
}

static void death(const struct world *w, struct visit *v, const struct actor *who, const char *name)
{
	ends(w, v, who, name, "dies", STEP_FAILURE);
}

/* The next action of whoever is in a row. */
static void work(const struct world *w, const struct rules *rules, struct visit *v, const struct actor *who,
		 const char *name)
{
	struct world next = *w;
	struct actor *a = twin(&next, w, who);
	const struct protocol_rule *rule = &rules->rows[who->rule - 1];
	enum protocol_action action = rule->actions[who->at];
	bool done, can;

	if (action == ACTION_RESTORE && (!w->command.alive || w->state > SOURCE_FROZEN))
		ends(w, v, who, name, "hears that the source hung up", STEP_WORK);
	if (action == ACTION_RESTORE && (w->original != FROZEN || !w->command.alive || w->state != SOURCE_FROZEN))
		return;			/* waits for it */
	if (a == &next.command && protocol_action_is_message(action))
		next.state = rule->next;
	can = world_act(&next, a, action, &done);
	say(v, name, protocol_action_name(action));
	if (can && done) {
		a->at++;
		a->half = 0;
	}
	if (!can || a->at == PROTOCOL_ROW_ACTIONS || !rule->actions[a->at])
		end_row(&next, rules, a, can);
	found(v, &next, STEP_WORK);
}

/* ---- the source ---- */

static void command_event(const struct world *w, const struct rules *rules, struct visit *v,
			  enum protocol_event e, enum step_kind kind)
{
	event(w, rules, v, &w->command, (enum protocol_state)w->state, e, "source", kind);
}

static bool is_known_to_run_there(const struct world *w)
{
	return w->record.disk == SYNCED;
}

static bool is_known_never_to(const struct world *w)
{
	return w->record.seen == REFUSED || w->record.seen == LOST;
}

static void command_waits(const struct world *w, const struct rules *rules, struct visit *v)
{
	command_event(w, rules, v, EVENT_STAND_STILL, STEP_WORK);
	command_event(w, rules, v, EVENT_GIVE_UP, STEP_WORK);
	command_event(w, rules, v, EVENT_LINK_LOST, STEP_WORK);
	command_event(w, rules, v, EVENT_ASK, STEP_WORK);
	for (size_t i = 0; i < FIRST_OF_TARGET; i++)
		if (w->letters & letters[i].letter)
			command_event(w, rules, v, letters[i].event, STEP_WORK);
	if (w->letters & LETTER_QUERY)
		command_event(w, rules, v, protocol_told(MESSAGE_OUTCOME_REFUSED, rules->believes_strangers),
			      STEP_FAILURE);
	if (is_known_to_run_there(w))
		command_event(w, rules, v, EVENT_ORDER_GONE, STEP_FAILURE);
	if (is_known_never_to(w))
		command_event(w, rules, v, EVENT_ORDER_RESUME, STEP_FAILURE);
}

/* Nobody else has the lock: serve, or somebody who resolves, goes by what is on disk. */
static void command_begins(const struct world *w, struct visit *v)
{
	struct world next = *w;
	bool decided = w->folder.seen && w->decision.seen;

	if (!decided && !w->release.seen)
		return;
	next.command = (struct actor){ .alive = 1 };
	next.state = decided ? SOURCE_DECIDED : SOURCE_OWES;
	say(v, "source", "another command begins");
	found(v, &next, STEP_WORK);
}

static void lease_ends(const struct world *w, const struct rules *rules, struct visit *v)
{
	enum protocol_state state = w->decision.seen ? SOURCE_DECIDED : SOURCE_FROZEN;
	const struct protocol_rule *rule = protocol_find(rules->rows, rules->n, state, EVENT_OWNER_DIED);
	struct world next = *w;

	bool held = w->command.alive && w->state < SOURCE_OWES;

	if (held || w->original != FROZEN || !rule || rule->actions[0] != ACTION_THAW)
		return;
	next.original = RUNNING;
	say(v, "source's monitor", "thaw");
	found(v, &next, STEP_WORK);
}

static void source_next(const struct world *w, const struct rules *rules, struct visit *v)
{
	if (!is_idle(&w->command))
		work(w, rules, v, &w->command, "source");
	else if (w->command.alive)
		command_waits(w, rules, v);
	if (w->command.alive) {
		death(w, v, &w->command, "source");
	} else {
		command_begins(w, v);
	}
	lease_ends(w, rules, v);
}

/* ---- the target ---- */

static void target_event(const struct world *w, const struct rules *rules, struct visit *v,
			 const struct actor *who, enum protocol_event e, const char *name)
{
	event(w, rules, v, who, world_target_state(w), e, name, STEP_WORK);
}

static void offer(const struct world *w, const struct rules *rules, struct visit *v)
{
	struct world next = *w;

	if (w->offered || !w->command.alive || !begin(rules, &next.worker, TARGET_NOTHING, EVENT_OFFER))
		return;
	next.offered = 1;
	say(v, "target", "OFFER");
	found(v, &next, STEP_WORK);
}

static bool can_sync(const struct world *w)
{
	return w->record.seen == RESUMED && w->says_running.seen && w->copy_folder.seen;
}

static void worker_next(const struct world *w, const struct rules *rules, struct visit *v)
{
	if (!w->worker.alive) {
		offer(w, rules, v);
		return;
	}
	if (!is_idle(&w->worker))
		work(w, rules, v, &w->worker, "worker");
	else if (can_sync(w))
		target_event(w, rules, v, &w->worker, EVENT_SYNC, "worker");
	death(w, v, &w->worker, "worker");
}

static void restorer_next(const struct world *w, const struct rules *rules, struct visit *v)
{
	if (!w->restorer.alive)
		return;
	if (!is_idle(&w->restorer)) {
		work(w, rules, v, &w->restorer, "restorer");
	} else {
		if (w->letters & LETTER_COMMIT)
			target_event(w, rules, v, &w->restorer, EVENT_COMMIT, "restorer");
		target_event(w, rules, v, &w->restorer, EVENT_HUNG_UP, "restorer");
	}
	death(w, v, &w->restorer, "restorer");
}

static void answerer_next(const struct world *w, const struct rules *rules, struct visit *v)
{
	if (w->answerer.alive) {
		work(w, rules, v, &w->answerer, "answerer");
		death(w, v, &w->answerer, "answerer");
		return;
	}
	if ((w->letters & LETTER_QUERY) && can_sync(w))
		target_event(w, rules, v, &w->answerer, EVENT_SYNC, "answerer");
	if (w->letters & LETTER_QUERY)
		target_event(w, rules, v, &w->answerer, EVENT_QUERY, "answerer");
	if (w->letters & LETTER_RELEASE)
		target_event(w, rules, v, &w->answerer, EVENT_RELEASE, "answerer");
}

/* A folder that says incoming and has no mark was never more than begun. */
static void sweep_unmarked(const struct world *w, struct visit *v)
{
	struct world next = *w;

	if (!w->copy_folder.seen || w->mark.seen || w->says_running.seen || w->worker.alive || w->restorer.alive)
		return;
	next.copy = NO_PROCESS;
	next.copy_folder.seen = 0;
	next.files = 0;
	say(v, "sweeper", "removes what has no mark");
	found(v, &next, STEP_WORK);
}

/* Who holds the lock and lives does it itself, or nobody does. */
static bool is_for_the_sweeper(const struct world *w)
{
	if (w->restorer.alive)
		return false;
	switch (w->record.seen) {
	case RESUMED:
		return w->copy_folder.seen && !w->says_running.seen;
	case SYNCED:
		return has_mark(w);
	case LOST:
		return w->copy_folder.seen && is_idle(&w->worker);
	case REFUSED:
		return is_idle(&w->worker);
	default:
		return has_mark(w) && is_idle(&w->worker);
	}
}

static void sweeper_next(const struct world *w, const struct rules *rules, struct visit *v)
{
	if (w->sweeper.alive) {
		work(w, rules, v, &w->sweeper, "sweeper");
		death(w, v, &w->sweeper, "sweeper");
		return;
	}
	sweep_unmarked(w, v);
	if (is_for_the_sweeper(w))
		target_event(w, rules, v, &w->sweeper, EVENT_SWEEP, "sweeper");
}

/* ---- machines and the network ---- */

/* After a loss of power a fact that was not on disk is as it was, or as it is. */
static void forget_pages(struct visit *v, struct world *next, struct fact *const *facts, size_t n)
{
	for (unsigned choice = 0; choice < 1U << n; choice++) {
		struct world one = *next;
		bool same = false;

		for (size_t i = 0; i < n; i++) {
			struct fact *f = (struct fact *)((char *)&one + ((char *)facts[i] - (char *)next));

			same |= (choice >> i & 1) && f->seen == f->disk;
			f->seen = f->disk = choice >> i & 1 ? f->disk : f->seen;
		}
		if (!same)		/* else it is found with another choice as well */
			found(v, &one, STEP_FAILURE);
	}
}

static void source_crashes(const struct world *w, struct visit *v)
{
	struct world next = *w;
	struct fact *const facts[] = { &next.folder, &next.decision, &next.release };

	next.original = NO_PROCESS;
	next.command = (struct actor){ 0 };
	say(v, "source", "loses power, and boots");
	forget_pages(v, &next, facts, 3);
}

static void target_crashes(const struct world *w, struct visit *v)
{
	struct world next = *w;
	struct fact *const facts[] = { &next.copy_folder, &next.mark, &next.says_running, &next.record };

	next.copy = NO_PROCESS;
	next.worker = next.restorer = next.answerer = next.sweeper = (struct actor){ 0 };
	next.record.seen = w->record.seen == RESUMED ? LOST : w->record.seen;
	next.record.disk = w->record.disk == RESUMED ? LOST : w->record.disk;
	say(v, "target", "loses power, and boots");
	forget_pages(v, &next, facts, 4);
}

static void network_next(const struct world *w, struct visit *v)
{
	struct world next = *w;

	for (size_t i = 0; i < N_LETTERS; i++) {
		if (!(w->letters & letters[i].letter))
			continue;
		next.letters = (uint16_t)(w->letters & ~letters[i].letter);
		say(v, letters[i].name, "is lost");
		found(v, &next, STEP_FAILURE);
	}
}

void world_next(const struct world *w, const struct rules *rules, struct visit *v)
{
	source_next(w, rules, v);
	source_crashes(w, v);
	worker_next(w, rules, v);
	restorer_next(w, rules, v);
	answerer_next(w, rules, v);
	sweeper_next(w, rules, v);
	target_crashes(w, v);
	network_next(w, v);
}
