#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/sequence.h"

typedef bool (*fits_fn)(const struct message *message);

static bool only_asks(const struct message *m)
{
	return m->offer.only_asking;
}

static bool is_refusal(const struct message *m)
{
	return !m->verdict.accepted;
}

static bool wants_image(const struct message *m)
{
	return m->verdict.accepted && m->verdict.image_wanted;
}

static bool has_image(const struct message *m)
{
	return m->verdict.accepted && !m->verdict.image_wanted;
}

static bool is_image(const struct message *m)
{
	return m->tree_begin.kind == MESSAGE_TREE_IMAGE;
}

static bool is_upper(const struct message *m)
{
	return m->tree_begin.kind == MESSAGE_TREE_UPPER;
}

static bool is_tmpfs(const struct message *m)
{
	return m->tree_begin.kind == MESSAGE_TREE_TMPFS;
}

static bool is_checkpoint(const struct message *m)
{
	return m->tree_begin.kind == MESSAGE_TREE_CHECKPOINT;
}

static bool is_memory(const struct message *m)
{
	return m->tree_begin.kind == MESSAGE_TREE_MEMORY;
}

static bool is_of_round(const struct message *m)
{
	return is_memory(m) || is_upper(m);
}

static bool is_held(const struct message *m)
{
	return m->tree_begin.kind == MESSAGE_TREE_HELD;
}

static bool is_meta(const struct message *m)
{
	return m->tree_begin.kind == MESSAGE_TREE_META;
}

struct row {
	enum sequence_state state;
	enum wire_side from;
	enum wire_type type;
	enum sequence_state next;
	fits_fn fits;			/* NULL: whatever the message says */
};

#define S(name) SEQUENCE_##name
#define SOURCE(type) WIRE_SOURCE, WIRE_##type
#define TARGET(type) WIRE_TARGET, WIRE_##type

static const struct row rows[] = {
	{ S(START), SOURCE(HELLO), S(SOURCE_GREETED), NULL },
	{ S(START), TARGET(HELLO), S(TARGET_GREETED), NULL },
	{ S(SOURCE_GREETED), TARGET(HELLO), S(OPEN), NULL },
	{ S(TARGET_GREETED), SOURCE(HELLO), S(OPEN), NULL },

	{ S(OPEN), SOURCE(QUERY), S(ASKED), NULL },
	{ S(ASKED), TARGET(ANSWER), S(ANSWERED), NULL },
	{ S(ANSWERED), SOURCE(QUERY), S(ASKED), NULL },
	{ S(ANSWERED), SOURCE(RELEASE), S(RELEASED), NULL },
	{ S(OPEN), SOURCE(RELEASE), S(RELEASED), NULL },

	{ S(OPEN), SOURCE(OFFER), S(ASKING), only_asks },
	{ S(ASKING), TARGET(VERDICT), S(DONE), NULL },
	{ S(OPEN), SOURCE(JOIN), S(JOINING), NULL },
	{ S(JOINING), TARGET(JOINED), S(JOINED), NULL },
	{ S(JOINED), SOURCE(TREE_BEGIN), S(IN_JOINED), is_memory },
	{ S(IN_JOINED), SOURCE(DATA), S(IN_JOINED), NULL },
	{ S(IN_JOINED), SOURCE(TREE_END), S(JOINED), NULL },

	{ S(OPEN), SOURCE(NETWORK), S(TELLING), NULL },
	{ S(OPEN), SOURCE(PLACES), S(TELLING), NULL },
	{ S(TELLING), TARGET(PLACES), S(TOLD), NULL },
	{ S(TOLD), SOURCE(NETWORK), S(TELLING), NULL },
	{ S(TOLD), SOURCE(PLACES), S(TELLING), NULL },

	{ S(OPEN), SOURCE(OFFER), S(OFFERED), NULL },
	{ S(OFFERED), TARGET(VERDICT), S(DONE), is_refusal },
	{ S(OFFERED), TARGET(VERDICT), S(IMAGE_WANTED), wants_image },
	{ S(OFFERED), TARGET(VERDICT), S(PREPARING), has_image },
	{ S(IMAGE_WANTED), SOURCE(TREE_BEGIN), S(IN_IMAGE), is_image },
	{ S(IN_IMAGE), SOURCE(DATA), S(IN_IMAGE), NULL },
	{ S(IN_IMAGE), SOURCE(TREE_END), S(PREPARING), NULL },
	{ S(PREPARING), TARGET(PREPARED), S(PREPARED), NULL },
	{ S(PREPARED), SOURCE(TREE_BEGIN), S(IN_ROUND), is_of_round },
	{ S(IN_ROUND), SOURCE(DATA), S(IN_ROUND), NULL },
	{ S(IN_ROUND), SOURCE(TREE_END), S(PREPARED), NULL },
	{ S(PREPARED), SOURCE(FROZEN), S(FROZEN), NULL },

	{ S(FROZEN), SOURCE(TREE_BEGIN), S(IN_LAST_ROUND), is_memory },
	{ S(IN_LAST_ROUND), SOURCE(DATA), S(IN_LAST_ROUND), NULL },
	{ S(IN_LAST_ROUND), SOURCE(TREE_END), S(FROZEN), NULL },
	{ S(FROZEN), SOURCE(TREE_BEGIN), S(IN_UPPER), is_upper },
	{ S(IN_UPPER), SOURCE(DATA), S(IN_UPPER), NULL },
	{ S(IN_UPPER), SOURCE(TREE_END), S(HAS_UPPER), NULL },
	{ S(HAS_UPPER), SOURCE(TREE_BEGIN), S(IN_TMPFS), is_tmpfs },
	{ S(IN_TMPFS), SOURCE(DATA), S(IN_TMPFS), NULL },
	{ S(IN_TMPFS), SOURCE(TREE_END), S(HAS_UPPER), NULL },
	{ S(HAS_UPPER), SOURCE(TREE_BEGIN), S(IN_CHECKPOINT), is_checkpoint },
	{ S(IN_CHECKPOINT), SOURCE(DATA), S(IN_CHECKPOINT), NULL },
	{ S(IN_CHECKPOINT), SOURCE(TREE_END), S(HAS_CHECKPOINT), NULL },
	{ S(HAS_CHECKPOINT), SOURCE(TREE_BEGIN), S(IN_META), is_meta },
	{ S(IN_META), SOURCE(DATA), S(IN_META), NULL },
	{ S(IN_META), SOURCE(TREE_END), S(HAS_META), NULL },

	{ S(HAS_META), SOURCE(RESTORE), S(RESTORING), NULL },
	{ S(RESTORING), TARGET(RESTORED), S(RESTORED), NULL },
	{ S(RESTORED), SOURCE(TREE_BEGIN), S(IN_HELD), is_held },
	{ S(IN_HELD), SOURCE(DATA), S(IN_HELD), NULL },
	{ S(IN_HELD), SOURCE(TREE_END), S(RESTORED), NULL },
	{ S(RESTORED), SOURCE(COMMIT), S(COMMITTED), NULL },
	{ S(COMMITTED), TARGET(RESUMED), S(RESUMED), NULL },
	{ S(RESUMED), SOURCE(TREE_BEGIN), S(IN_STRAGGLERS), is_held },
	{ S(IN_STRAGGLERS), SOURCE(DATA), S(IN_STRAGGLERS), NULL },
	{ S(IN_STRAGGLERS), SOURCE(TREE_END), S(RESUMED), NULL },
	{ S(RESUMED), TARGET(SYNCED), S(SYNCED), NULL },
	{ S(SYNCED), SOURCE(TREE_BEGIN), S(IN_LAST_STRAGGLERS), is_held },
	{ S(IN_LAST_STRAGGLERS), SOURCE(DATA), S(IN_LAST_STRAGGLERS), NULL },
	{ S(IN_LAST_STRAGGLERS), SOURCE(TREE_END), S(SYNCED), NULL },
	{ S(SYNCED), SOURCE(RELEASE), S(LEAVING), NULL },
	{ S(LEAVING), TARGET(FORGOTTEN), S(LEFT), NULL },
	{ S(LEFT), SOURCE(TREE_BEGIN), S(IN_STRAYS), is_held },
	{ S(IN_STRAYS), SOURCE(DATA), S(IN_STRAYS), NULL },
	{ S(IN_STRAYS), SOURCE(TREE_END), S(LEFT), NULL },

	{ S(RELEASED), TARGET(FORGOTTEN), S(DONE), NULL },
};

#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

/* Steps that the rows don't list because they are possible in many states. */
static bool is_any_time(enum sequence_state state, enum wire_side from, enum wire_type type,
			enum sequence_state *ret_next)
{
	if (type == WIRE_ABORT && state < SEQUENCE_COMMITTED) {
		*ret_next = SEQUENCE_DONE;
		return true;
	}
	if (type == WIRE_PROGRESS && state >= SEQUENCE_OFFERED && state <= SEQUENCE_COMMITTED) {
		*ret_next = state;
		return true;
	}
	if (type == WIRE_RECEIVED && from == WIRE_TARGET &&
	    (state == SEQUENCE_JOINED || state == SEQUENCE_IN_JOINED ||
	     (state >= SEQUENCE_PREPARED && state <= SEQUENCE_COMMITTED))) {
		*ret_next = state;
		return true;
	}
	return false;
}

/* message is NULL when only the type is known yet, and for DATA. */
static bool find_next(enum sequence_state state, enum wire_side from, enum wire_type type,
		      const struct message *message, enum sequence_state *ret_next)
{
	for (size_t i = 0; i < N_ROWS; i++) {
		const struct row *row = &rows[i];

		if (row->state != state || row->from != from || row->type != type)
			continue;
		if (message && row->fits && !row->fits(message))
			continue;
		*ret_next = row->next;
		return true;
	}
	return is_any_time(state, from, type, ret_next);
}

static int refuse(enum sequence_state state, enum wire_side from, enum wire_type type,
		  struct error *err)
{
	static const char *const sides[] = { "the source", "the target" };
	const char *name = wire_type_name(type);
	char expected[128] = "";
	size_t n = 0;

	for (size_t i = 0; i < N_ROWS && n < sizeof(expected); i++) {
		const char *possible = wire_type_name(rows[i].type);

		if (rows[i].state != state || rows[i].from != from || strstr(expected, possible))
			continue;
		n += (size_t)snprintf(expected + n, sizeof(expected) - n, "%s%s",
				      n ? " or " : "", possible);
	}
	return error_set(err, EPROTO, "%s out of order: %s may only say %s now",
			 name ? name : "an unknown message", sides[from],
			 n ? expected : state < SEQUENCE_COMMITTED ? "ABORT" : "nothing");
}

int sequence_check(const struct sequence *sequence, enum wire_side from, enum wire_type type,
		   struct error *err)
{
	enum sequence_state next;

	if (!find_next(sequence->state, from, type, NULL, &next))
		return refuse(sequence->state, from, type, err);
	return 0;
}

int sequence_step(struct sequence *sequence, enum wire_side from, enum wire_type type,
		  const struct message *message, struct error *err)
{
	enum sequence_state next;

	if ((type == WIRE_DATA) != !message || (message && message->type != type))
		return error_set(err, EINVAL, "a step needs the message that it is about");
	if (sequence_check(sequence, from, type, err) < 0)
		return -err->code;
	if (!find_next(sequence->state, from, type, message, &next)) {
		if (type == WIRE_TREE_BEGIN && message_tree_kind_name(message->tree_begin.kind))
			return error_set(err, EPROTO, "TREE_BEGIN out of order: it is not the "
					 "turn of the tree \"%s\"",
					 message_tree_kind_name(message->tree_begin.kind));
		return refuse(sequence->state, from, type, err);
	}
	sequence->state = next;
	return 0;
}

bool sequence_is_done(const struct sequence *sequence)
{
	return sequence->state == SEQUENCE_DONE || sequence->state == SEQUENCE_LEFT;
}
