#include "proto/message_table.h"

#define BYTES_MAX WIRE_BYTES_MAX
#define TIME_MAX WIRE_TIME_MAX_US

/* Rows: M is the message's struct. */
#define FLAG(M, f) { .name = #f, .kind = FIELD_FLAG, .offset = offsetof(struct M, f) }
#define U32(M, f, lo, hi) \
	{ .name = #f, .kind = FIELD_U32, .offset = offsetof(struct M, f), .min = lo, .max = hi }
#define U64(M, f, hi) \
	{ .name = #f, .kind = FIELD_U64, .offset = offsetof(struct M, f), .max = hi }
#define ENUM(M, f, hi) \
	{ .name = #f, .kind = FIELD_ENUM, .offset = offsetof(struct M, f), .min = 1, .max = hi }
#define TEXT(M, f, class) \
	{ .name = #f, .kind = FIELD_TEXT, .text = TEXT_##class, .offset = offsetof(struct M, f) }
#define TEXTS(M, f, class, hi) \
	{ .name = #f, .kind = FIELD_TEXTS, .text = TEXT_##class, \
	  .offset = offsetof(struct M, f), .count_offset = offsetof(struct M, n_##f), .max = hi }
#define STRUCTS(M, f, shape, hi) \
	{ .name = #f, .kind = FIELD_STRUCTS, .offset = offsetof(struct M, f), \
	  .count_offset = offsetof(struct M, n_##f), .max = hi, .element = shape }
#define SHAPE(M, table, check) \
	{ sizeof(struct M), table, sizeof(table) / sizeof((table)[0]), check }

_Static_assert(sizeof(enum message_tree_kind) == sizeof(uint32_t), "FIELD_ENUM");
_Static_assert(sizeof(enum message_outcome) == sizeof(uint32_t), "FIELD_ENUM");

static const struct message_field hello[] = {
	TEXT(message_hello, software, PHRASE),
	U32(message_hello, version, 1, WIRE_VERSION_MAX),
	U32(message_hello, lowest_version, 1, WIRE_VERSION_MAX),
	TEXT(message_hello, node_name, NAME),
	TEXT(message_hello, node_id, TOKEN),
};

static const struct message_field offer[] = {
	TEXT(message_offer, token, TOKEN),
	TEXT(message_offer, name, NAME),
	TEXT(message_offer, config_json, DOCUMENT),
	TEXT(message_offer, state_json, JSON),
	TEXT(message_offer, image_name, NAME),
	TEXT(message_offer, image_digest, DIGEST),
	U64(message_offer, image_bytes, BYTES_MAX),
	U64(message_offer, image_entries, WIRE_ENTRIES_MAX),
	U64(message_offer, memory_bytes, BYTES_MAX),
	U64(message_offer, disk_bytes, BYTES_MAX),
	TEXT(message_offer, arch, NAME),
	TEXT(message_offer, kernel_release, PHRASE),
	U32(message_offer, criu_version, 1, 99999999),
	TEXTS(message_offer, cpu_features, NAME, WIRE_CPU_FEATURES_MAX),
	TEXTS(message_offer, needs, PHRASE, WIRE_NEEDS_MAX),
	U64(message_offer, tasks, WIRE_ENTRIES_MAX),
	FLAG(message_offer, only_asking),
	U64(message_offer, retry_us, TIME_MAX),
	U32(message_offer, connections, 1, WIRE_CONNECTIONS_MAX),
};

static const struct message_field reason[] = {
	TEXT(message_reason, code, NAME),
	TEXT(message_reason, message, PHRASE),
	TEXT(message_reason, remedy, LINE),
};
static const struct message_shape reason_shape = SHAPE(message_reason, reason, NULL);

static const struct message_field verdict[] = {
	FLAG(message_verdict, accepted),
	STRUCTS(message_verdict, reasons, &reason_shape, WIRE_REASONS_MAX),
	FLAG(message_verdict, image_wanted),
	TEXT(message_verdict, node_name, NAME),
};

static const struct message_field tree_begin[] = {
	ENUM(message_tree_begin, kind, MESSAGE_TREE_HELD),
	TEXT(message_tree_begin, label, LABEL),
	FLAG(message_tree_begin, compressed),
};

static const struct message_field tree_end[] = {
	U64(message_tree_end, raw_bytes, BYTES_MAX),
	U64(message_tree_end, entries, WIRE_ENTRIES_MAX),
	U64(message_tree_end, checksum, UINT64_MAX),
};

static const struct message_field prepared[] = {
	U64(message_prepared, prepare_us, TIME_MAX),
};

static const struct message_field frozen[] = {
	U64(message_frozen, frozen_at_real_us, TIME_MAX),
};

static const struct message_field step[] = {
	TEXT(message_step, name, NAME),
	U64(message_step, us, TIME_MAX),
};
static const struct message_shape step_shape = SHAPE(message_step, step, NULL);

static const struct message_field restored[] = {
	U64(message_restored, restore_us, TIME_MAX),
	U32(message_restored, pid, 1, 1u << 22),	/* PID_MAX_LIMIT, proc(5) */
	STRUCTS(message_restored, steps, &step_shape, MESSAGE_STEPS_MAX),
};

static const struct message_field commit[] = { TEXT(message_commit, token, TOKEN) };
static const struct message_field query[] = { TEXT(message_query, token, TOKEN) };
static const struct message_field release[] = { TEXT(message_release, token, TOKEN) };
static const struct message_field synced[] = { TEXT(message_synced, token, TOKEN) };
static const struct message_field forgotten[] = { TEXT(message_forgotten, token, TOKEN) };

static const struct message_field resumed[] = {
	TEXT(message_resumed, token, TOKEN),
	U64(message_resumed, resume_us, TIME_MAX),
	U64(message_resumed, resumed_at_real_us, TIME_MAX),
	STRUCTS(message_resumed, steps, &step_shape, MESSAGE_STEPS_MAX),
};

static const struct message_field aborted[] = {
	TEXT(message_abort, code, NAME),
	TEXT(message_abort, message, PHRASE),
	TEXT(message_abort, state, LINE),
};

static const struct message_field answer[] = {
	TEXT(message_answer, token, TOKEN),
	ENUM(message_answer, outcome, MESSAGE_OUTCOME_LOST),
};

static const struct message_field progress[] = {
	TEXT(message_progress, phase, NAME),
	U64(message_progress, bytes, BYTES_MAX),
};

static const struct message_field join[] = {
	TEXT(message_join, token, TOKEN),
	TEXT(message_join, name, NAME),
	U32(message_join, connection, 0, WIRE_CONNECTIONS_MAX - 1),
};

static const struct message_field joined[] = {
	U64(message_joined, received, WIRE_ENTRIES_MAX),
};

static const struct message_field received[] = {
	U64(message_received, frames, WIRE_ENTRIES_MAX),
};

static const struct message_field network[] = {
	TEXT(message_network, name, NAME),
	TEXT(message_network, record_json, DOCUMENT),
	FLAG(message_network, remove),
};

static const struct message_field places[] = {
	TEXT(message_places, network, NAME),
	U32(message_places, member, 0, WIRE_MEMBERS_MAX - 1),
	TEXT(message_places, places_json, DOCUMENT),
};

static const char *hello_problem(const void *content)
{
	const struct message_hello *m = content;

	return m->lowest_version > m->version ? "lowest_version is above version" : NULL;
}

static const char *verdict_problem(const void *content)
{
	const struct message_verdict *m = content;

	if (!m->accepted && m->n_reasons == 0)
		return "a refusal needs a reason";
	if (!m->accepted && m->image_wanted)
		return "a refusal can't want the image";
	return NULL;
}

static const char *tree_begin_problem(const void *content)
{
	const struct message_tree_begin *m = content;

	if (m->kind == MESSAGE_TREE_TMPFS && (!m->label || !text_is_mount_point(m->label)))
		return "label of a tmpfs must be its absolute mount point";
	return NULL;
}

const struct message_shape *message_shape(unsigned type)
{
	static const struct message_shape shapes[WIRE_TYPE_END] = {
		[WIRE_HELLO] = SHAPE(message_hello, hello, hello_problem),
		[WIRE_OFFER] = SHAPE(message_offer, offer, NULL),
		[WIRE_VERDICT] = SHAPE(message_verdict, verdict, verdict_problem),
		[WIRE_TREE_BEGIN] = SHAPE(message_tree_begin, tree_begin, tree_begin_problem),
		[WIRE_TREE_END] = SHAPE(message_tree_end, tree_end, NULL),
		[WIRE_PREPARED] = SHAPE(message_prepared, prepared, NULL),
		[WIRE_FROZEN] = SHAPE(message_frozen, frozen, NULL),
		[WIRE_RESTORE] = { 0 },
		[WIRE_RESTORED] = SHAPE(message_restored, restored, NULL),
		[WIRE_COMMIT] = SHAPE(message_commit, commit, NULL),
		[WIRE_RESUMED] = SHAPE(message_resumed, resumed, NULL),
		[WIRE_RELEASE] = SHAPE(message_release, release, NULL),
		[WIRE_ABORT] = SHAPE(message_abort, aborted, NULL),
		[WIRE_QUERY] = SHAPE(message_query, query, NULL),
		[WIRE_ANSWER] = SHAPE(message_answer, answer, NULL),
		[WIRE_PROGRESS] = SHAPE(message_progress, progress, NULL),
		[WIRE_JOIN] = SHAPE(message_join, join, NULL),
		[WIRE_JOINED] = SHAPE(message_joined, joined, NULL),
		[WIRE_RECEIVED] = SHAPE(message_received, received, NULL),
		[WIRE_SYNCED] = SHAPE(message_synced, synced, NULL),
		[WIRE_FORGOTTEN] = SHAPE(message_forgotten, forgotten, NULL),
		[WIRE_NETWORK] = SHAPE(message_network, network, NULL),
		[WIRE_PLACES] = SHAPE(message_places, places, NULL),
	};

	return type < WIRE_TYPE_END && (shapes[type].fields || type == WIRE_RESTORE) ?
		&shapes[type] : NULL;
}
