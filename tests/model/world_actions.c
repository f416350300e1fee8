/* What an action does to a world. */
#include "tests/model/world.h"

/* The first half changes what is seen, the second puts it on disk. */
static bool write_durably(struct fact *f, uint8_t value, struct actor *by, bool *ret_done)
{
	if (!by->half) {
		f->seen = value;
		by->half = 1;
		*ret_done = false;
		return true;
	}
	f->disk = f->seen;
	return true;
}

static bool destroy(struct world *w, struct actor *by, bool *ret_done)
{
	if (by->half == 0) {
		if (w->record.disk != SYNCED)
			w->broken = REMOVED_TOO_EARLY;
		w->original = NO_PROCESS;
	} else if (by->half == 1) {
		w->folder.seen = 0;
	} else {
		w->folder.disk = 0;
		return true;
	}
	by->half++;
	*ret_done = false;
	return true;
}

static bool reserve(struct world *w, struct actor *by, bool *ret_done)
{
	if (by->half == 0) {
		w->copy_folder.seen = 1;
	} else if (by->half == 1) {
		w->mark.seen = 1;
		w->says_running.seen = 0;
	} else {
		w->copy_folder.disk = w->mark.disk = 1;
		w->says_running.disk = 0;
		return true;
	}
	by->half++;
	*ret_done = false;
	return true;
}

/* Made by link(2): only when there is none, or the same. */
static bool decide(struct world *w, enum record wanted, struct actor *by, bool *ret_done)
{
	if (by->half == 0 && w->record.seen != NO_RECORD && w->record.seen != wanted)
		return false;
	return write_durably(&w->record, wanted, by, ret_done);
}

/* Exchanged with the one that is there: only when there is one. */
static bool write_synced(struct world *w, struct actor *by, bool *ret_done)
{
	if (by->half == 0 && w->record.seen != RESUMED && w->record.seen != SYNCED)
		return false;
	return write_durably(&w->record, SYNCED, by, ret_done);
}

/* It is found by its mark. */
static void kill_copy(struct world *w)
{
	if (!w->copy_folder.seen || !w->mark.seen)
		return;
	if (w->copy != NO_PROCESS && (w->record.seen == RESUMED || w->record.seen == SYNCED))
		w->broken = KILLED_WHAT_RAN;
	w->copy = NO_PROCESS;
}

/* Not durable: it may be back after a loss of power, mark and all. */
static void remove_copy_folder(struct world *w)
{
	if (!w->mark.seen)
		return;
	w->copy_folder.seen = 0;
	w->files = 0;
}

static void sync_files(struct world *w)
{
	w->copy_folder.disk = w->copy_folder.seen;
	w->mark.disk = w->mark.seen;
	w->says_running.disk = w->says_running.seen;
	w->record.disk = w->record.seen;
	w->files = w->copy_folder.seen;
}

/* It arrives while the original stands still under the command's eyes. */
static bool restore(struct world *w)
{
	if (w->original != FROZEN || !w->command.alive || w->state != SOURCE_FROZEN)
		return false;
	w->copy = FROZEN;
	w->restorer = (struct actor){ .alive = 1 };
	return true;
}

static void thaw_copy(struct world *w)
{
	if (w->copy == FROZEN) {
		w->copy = RUNNING;
		w->copy_ran = 1;
	}
}

static bool send(struct world *w, enum letter letter)
{
	w->letters = (uint16_t)(w->letters | letter);
	return true;
}

static bool tell_refused(struct world *w)
{
	if (w->copy_ran && world_is_decided(w))
		w->broken = UNTRUE_ANSWER;
	return send(w, LETTER_REFUSED);
}

static bool act_of_source(struct world *w, struct actor *by, enum protocol_action action, bool *ret_done)
{
	switch ((int)action) {
	case ACTION_FREEZE:
		w->original = FROZEN;
		return true;
	case ACTION_THAW:
		w->original = w->original == FROZEN ? RUNNING : w->original;
		return true;
	case ACTION_WRITE_DECISION:
		return write_durably(&w->decision, 1, by, ret_done);
	case ACTION_REMOVE_DECISION:
		return write_durably(&w->decision, 0, by, ret_done);
	case ACTION_WRITE_RELEASE:
		return write_durably(&w->release, 1, by, ret_done);
	case ACTION_REMOVE_RELEASE:
		w->release.seen = 0;
		return true;
	case ACTION_DESTROY:
		return destroy(w, by, ret_done);
	case ACTION_SYNC_REMOVAL:
		w->folder.disk = w->folder.seen;
		w->decision.disk = w->decision.seen;
		return true;
	default:
		return false;
	}
}

static bool act_of_target(struct world *w, struct actor *by, enum protocol_action action, bool *ret_done)
{
	switch ((int)action) {
	case ACTION_RESERVE:
		return reserve(w, by, ret_done);
	case ACTION_RESTORE:
		return restore(w);
	case ACTION_DECIDE_RESUMED:
		return decide(w, RESUMED, by, ret_done);
	case ACTION_DECIDE_REFUSED:
		return decide(w, REFUSED, by, ret_done);
	case ACTION_THAW_COPY:
		thaw_copy(w);
		return true;
	case ACTION_RECORD_RUNNING:
		w->says_running.seen = 1;
		return true;
	case ACTION_SYNC_FILES:
		sync_files(w);
		return true;
	case ACTION_WRITE_SYNCED:
		return write_synced(w, by, ret_done);
	case ACTION_REMOVE_MARK:
		return write_durably(&w->mark, 0, by, ret_done);
	case ACTION_KILL_COPY:
		kill_copy(w);
		return true;
	case ACTION_REMOVE_FOLDER:
		remove_copy_folder(w);
		return true;
	case ACTION_FORGET:
		return write_durably(&w->record, NO_RECORD, by, ret_done);
	default:
		return false;
	}
}

static bool act_of_message(struct world *w, enum protocol_action action)
{
	switch ((int)action) {
	case ACTION_SEND_COMMIT:
		return send(w, LETTER_COMMIT);
	case ACTION_SEND_QUERY:
		return send(w, LETTER_QUERY);
	case ACTION_SEND_RELEASE:
		return send(w, LETTER_RELEASE);
	case ACTION_TELL_RESTORED:
		return send(w, LETTER_RESTORED);
	case ACTION_TELL_RESUMED:
		return send(w, LETTER_RESUMED);
	case ACTION_TELL_SYNCED:
		return send(w, LETTER_SYNCED);
	case ACTION_TELL_REFUSED:
		return tell_refused(w);
	case ACTION_TELL_LOST:
		return send(w, LETTER_LOST);
	case ACTION_TELL_FORGOTTEN:
		return send(w, LETTER_FORGOTTEN);
	default:
		return false;
	}
}

bool world_act(struct world *w, struct actor *by, enum protocol_action action, bool *ret_done)
{
	*ret_done = true;
	if (protocol_action_is_message(action))
		return act_of_message(w, action);
	if (action >= ACTION_RESERVE)
		return act_of_target(w, by, action, ret_done);
	return act_of_source(w, by, action, ret_done);
}
