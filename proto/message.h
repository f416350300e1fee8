/*
 * message.h - control messages as plain structs, to and from bytes
 *
 * The encoding is Protocol Buffers (control.proto); nobody outside message.c
 * sees that. Each field has one rule (length, range, alphabet), written in the
 * tables of message_table.c and applied in both directions, so nothing leaves
 * that a peer would refuse. Text that a person may be shown is valid UTF-8
 * without control or direction-changing characters: a peer can't talk to an
 * operator's terminal. A payload that says the same in other bytes than we
 * would (unknown or doubled fields, NULs) is refused.
 *
 * Sending: fill a struct with borrowed strings (NULL is an empty one); it is
 * not freed.
 *
 *	struct message message = { .type = WIRE_COMMIT, .commit.token = token };
 *	r = message_encode_frame(&message, &out, err);
 *
 * Receiving: the struct owns its strings, none of which is NULL.
 *
 *	CLEANUP(message_free) struct message message = {};
 *	r = message_decode(frame->type, payload, frame->length, &message, err);
 *	... message.commit.token
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/error.h"
#include "proto/buffer.h"
#include "proto/wire.h"

/* The kinds of text:
 *   name	[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}
 *   token	32 lower-case hex digits, digest: 64
 *   line	up to WIRE_LINE_MAX bytes, printable, may be empty
 *   JSON	up to WIRE_JSON_MAX bytes of UTF-8; its syntax is not looked at
 * Numbers are within WIRE_BYTES_MAX, WIRE_ENTRIES_MAX, WIRE_TIME_MAX_US. */

struct message_hello {
	const char *software;		/* line: "godwit 0.1.0" */
	uint32_t version;		/* highest protocol version it speaks, from 1 */
	uint32_t lowest_version;	/* at most version */
	const char *node_name;		/* name */
	const char *node_id;		/* token: who it is, whatever it is called */
};

struct message_offer {
	const char *token;		/* token: this migration, everywhere */
	const char *name;		/* name of the container */
	const char *config_json;	/* JSON, not empty */
	const char *state_json;		/* JSON, may be empty */
	const char *image_name;		/* name */
	const char *image_digest;	/* digest */
	uint64_t image_bytes;
	uint64_t image_entries;
	uint64_t memory_bytes;		/* what it needs there */
	uint64_t disk_bytes;
	const char *arch;		/* name, of uname(2): "x86_64" */
	const char *kernel_release;	/* line, of uname(2) */
	uint32_t criu_version;		/* 40101 for 4.1.1 */
	const char **cpu_features;	/* names, of /proc/cpuinfo */
	size_t n_cpu_features;		/* to WIRE_CPU_FEATURES_MAX */
	const char **needs;		/* lines, not empty: migrate/admission/needs.h */
	size_t n_needs;			/* to WIRE_NEEDS_MAX */
	uint64_t tasks;			/* its processes and threads, now */
	bool only_asking;		/* after the verdict the conversation ends */
	uint64_t retry_us;		/* so long it tries to come back when a connection is lost */
	uint32_t connections;		/* that memory goes over, from 1 to WIRE_CONNECTIONS_MAX */
};

struct message_reason {
	const char *code;		/* name, for machines: "name-taken" */
	const char *message;		/* line, not empty */
	const char *remedy;		/* line: what to do about it */
};

struct message_verdict {
	bool accepted;			/* else there is a reason */
	struct message_reason *reasons;	/* with accepted: warnings */
	size_t n_reasons;		/* to WIRE_REASONS_MAX */
	bool image_wanted;		/* only with accepted */
	const char *node_name;		/* name */
};

enum message_tree_kind {
	MESSAGE_TREE_IMAGE = 1,
	MESSAGE_TREE_UPPER = 2,
	MESSAGE_TREE_CHECKPOINT = 3,
	MESSAGE_TREE_TMPFS = 4,
	MESSAGE_TREE_META = 5,
	MESSAGE_TREE_MEMORY = 6,	/* a round of pages: pages.h */
	MESSAGE_TREE_HELD = 7,		/* network frames that were held: held.h */
};

struct message_tree_begin {
	enum message_tree_kind kind;
	const char *label;		/* TMPFS: its mount point, absolute, without
					 * "." and ".."; others: line */
	bool compressed;		/* DATA frames may carry WIRE_FLAG_ZSTD */
};

struct message_tree_end {
	uint64_t raw_bytes;		/* of all DATA, unpacked */
	uint64_t entries;
	uint64_t checksum;		/* checksum.h over the raw bytes */
};

struct message_prepared {
	uint64_t prepare_us;
};

struct message_frozen {
	uint64_t frozen_at_real_us;	/* clock_real_us of the source */
};

#define MESSAGE_STEPS_MAX 24u

struct message_step {
	const char *name;
	uint64_t us;
};

struct message_restored {
	uint64_t restore_us;
	uint32_t pid;			/* on the target, from 1 */
	struct message_step *steps;
	size_t n_steps;
};

struct message_commit {
	const char *token;
};

struct message_resumed {
	const char *token;
	uint64_t resume_us;
	uint64_t resumed_at_real_us;	/* clock_real_us of the target */
	struct message_step *steps;
	size_t n_steps;
};

struct message_abort {
	const char *code;		/* name, for machines */
	const char *message;		/* line, not empty: what happened */
	const char *state;		/* line: what state things are in now */
};

struct message_query {
	const char *token;
};

enum message_outcome {
	MESSAGE_OUTCOME_REFUSED = 1,	/* never will run there: thaw the original */
	MESSAGE_OUTCOME_RESUMED = 2,	/* runs there, and is not on disk yet */
	MESSAGE_OUTCOME_SYNCED = 3,	/* is on disk there: destroy the original */
	MESSAGE_OUTCOME_LOST = 4,	/* ran, and was lost with the machine's power: thaw */
};

struct message_answer {
	const char *token;
	enum message_outcome outcome;
};

struct message_release {
	const char *token;
};

struct message_synced {
	const char *token;
};

struct message_forgotten {
	const char *token;
};

struct message_progress {
	const char *phase;		/* name */
	uint64_t bytes;
};

struct message_join {
	const char *token;
	const char *name;		/* of the container */
	uint32_t connection;		/* below WIRE_CONNECTIONS_MAX */
};

struct message_joined {
	uint64_t received;		/* frames, over the connections before this one */
};

struct message_received {
	uint64_t frames;		/* since PREPARED, or JOINED with none */
};

struct message_network {
	const char *name;		/* name */
	const char *record_json;	/* JSON, not empty: named_network.h */
	bool remove;			/* what was just made is not wanted */
};

struct message_places {
	const char *network;		/* name */
	uint32_t member;		/* index of who says it, below WIRE_MEMBERS_MAX */
	const char *places_json;	/* JSON, not empty: places.h */
};

struct message {
	enum wire_type type;		/* not WIRE_DATA; says which one it is */
	union {				/* RESTORE has no content */
		struct message_hello hello;
		struct message_offer offer;
		struct message_verdict verdict;
		struct message_tree_begin tree_begin;
		struct message_tree_end tree_end;
		struct message_prepared prepared;
		struct message_frozen frozen;
		struct message_restored restored;
		struct message_commit commit;
		struct message_resumed resumed;
		struct message_abort abort;
		struct message_query query;
		struct message_answer answer;
		struct message_release release;
		struct message_synced synced;
		struct message_forgotten forgotten;
		struct message_progress progress;
		struct message_join join;
		struct message_joined joined;
		struct message_received received;
		struct message_network network;
		struct message_places places;
	};
};

/* Appends the payload. -EINVAL names the message and field that break a rule. */
int message_encode(const struct message *message, struct buffer *out, struct error *err);

/* Appends a whole frame, header and payload, ready to be sent. */
int message_encode_frame(const struct message *message, struct buffer *out, struct error *err);

/* -EPROTO names the message and field, never quoting the peer's bytes. Memory
 * is bounded whatever the payload is. */
int message_decode(enum wire_type type, const void *payload, size_t len, struct message *ret,
		   struct error *err);

/* Frees what a decoded message owns and leaves an empty struct. */
void message_free(struct message *message);

/* The version to speak after both HELLOs: the highest that both know.
 * -EPROTONOSUPPORT says which node has the older software. */
int message_agree_version(const struct message_hello *ours, const struct message_hello *theirs,
			  uint32_t *ret_version, struct error *err);

/* "checkpoint", "resumed": for people; NULL out of range. */
const char *message_tree_kind_name(enum message_tree_kind kind);
