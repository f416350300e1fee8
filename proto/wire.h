/*
 * wire.h - what two nodes say to each other, and how long it may get
 *
 * One TCP connection carries one conversation between a migrating command (the
 * source) and a node's daemon (the target). It is a sequence of frames: a
 * header of 16 bytes (frame.h) and a payload, which is a control message
 * (message.h, control.proto) or, in a DATA frame, a block of a tree (block.h).
 *
 * A migration:
 *
 *	source                          target
 *	HELLO                       ->
 *	                            <-  HELLO		either may speak first
 *	OFFER                       ->			what the container is
 *	                            <-  VERDICT		yes, or every reason why not
 *	[ TREE IMAGE                ->			if VERDICT says image_wanted ]
 *	                            <-  PREPARED	all but the processes is there
 *	[ TREE UPPER                ->			changes to its root since the round before
 *	  TREE MEMORY               -> ]...		and pages, while it runs
 *	FROZEN                      ->			the container stands still
 *	[ TREE MEMORY               -> ]		the last pages, and the map of them
 *	TREE UPPER                  ->			the last changes to its root
 *	[ TREE TMPFS ]...           ->			one for each tmpfs
 *	TREE CHECKPOINT             ->			CRIU's images
 *	TREE META                   ->			log, state and the like
 *	RESTORE                     ->			no more will come
 *	                            <-  RESTORED	complete, but frozen
 *	TREE HELD                   ->			frames that came meanwhile, or none
 *	COMMIT                      ->			the point of no return
 *	                            <-  RESUMED		it runs, here
 *	TREE HELD...                ->			those that came later; the first at once
 *	                            <-  SYNCED		its files are on disk, here
 *	[ TREE HELD                 -> ]...
 *	RELEASE                     ->			the original is gone
 *	                            <-  FORGOTTEN	and so is what was kept for a QUERY
 *	[ TREE HELD                 -> ]...		what goes astray for a while
 *
 * where TREE is TREE_BEGIN, any number of DATA, TREE_END. An OFFER that is only
 * asking ends with the VERDICT.
 *
 * From PREPARED to FROZEN a connection may be lost, and another take its place:
 * the target tells now and then how many frames have come since PREPARED
 * (RECEIVED, at any time until RESUMED), the source keeps and counts what it sends.
 * On the new connection
 *
 *	HELLO                       ->
 *	                            <-  HELLO
 *	JOIN                        ->			the token of the OFFER, connection 0
 *	                            <-  JOINED		so many frames have come
 *
 * (with TLS the target ends its session after JOIN, by close_notify, and both begin
 * another one on the same connection, as another process of the target goes on with it)
 * and then the source sends all frames after those, and goes on where it was.
 * After FROZEN a lost connection ends the migration.
 *
 * Memory may go over further connections, which begin like that after PREPARED and
 * have the numbers up to what OFFER says. On each the source sends
 *
 *	[ TREE MEMORY               -> ]...		those of the rounds
 *
 * Their n-th trees are one round with the n-th tree of memory on the first
 * connection, and belong to it. Each page has its connection: pages.h.
 *
 * After a connection broke between COMMIT and FORGOTTEN, on a new one, as often
 * as it takes (migrate/protocol.h tells what it means):
 *
 *	HELLO                       ->
 *	                            <-  HELLO
 *	[ QUERY                     ->
 *	                            <-  ANSWER ]...
 *	[ RELEASE                   ->
 *	                            <-  FORGOTTEN ]
 *
 * What a named network is, and what is where on it (engine/network/named_network.h, places.h);
 * each answer is what the target claims. NETWORK makes it there, or undoes that:
 *
 *	HELLO                       ->
 *	                            <-  HELLO
 *	[ NETWORK or PLACES         ->
 *	                            <-  PLACES ]...
 *
 * ABORT may come from either side at any time before COMMIT and ends the
 * conversation; so does a VERDICT that refuses. From OFFER to RESUMED each side
 * may send PROGRESS between any two frames, also inside a tree. Everything
 * else, and everything out of this order (sequence.h), is refused, and so is
 * everything unknown: types, flags, fields.
 *
 * All of it goes through TLS (migrate/tls), unless both nodes were told otherwise.
 *
 * All numbers of the frame header are little-endian.
 */
#pragma once

#include <stdint.h>

#define WIRE_MAGIC 0x54574447u			/* "GDWT" in memory */
#define WIRE_VERSION 4u				/* what this program speaks */
#define WIRE_LOWEST_VERSION 4u			/* the oldest that it still speaks */
#define WIRE_DEFAULT_PORT 4967

/* A frame's type; the numbers are the protocol and never change meaning. */
enum wire_type {
	WIRE_HELLO = 1,
	WIRE_OFFER = 2,
	WIRE_VERDICT = 3,
	WIRE_TREE_BEGIN = 4,
	WIRE_DATA = 5,				/* a block, not a message */
	WIRE_TREE_END = 6,
	WIRE_PREPARED = 7,
	WIRE_FROZEN = 8,
	WIRE_RESTORE = 9,
	WIRE_RESTORED = 10,
	WIRE_COMMIT = 11,
	WIRE_RESUMED = 12,
	WIRE_RELEASE = 13,
	WIRE_ABORT = 14,
	WIRE_QUERY = 15,
	WIRE_ANSWER = 16,
	WIRE_PROGRESS = 17,
	WIRE_JOIN = 18,
	WIRE_JOINED = 19,
	WIRE_RECEIVED = 20,
	WIRE_SYNCED = 21,
	WIRE_FORGOTTEN = 22,
	WIRE_NETWORK = 23,			/* from version 3 on */
	WIRE_PLACES = 24,
};
#define WIRE_TYPE_END 25u			/* one above the highest */

enum wire_side { WIRE_SOURCE, WIRE_TARGET };

/* Flags of a frame. */
#define WIRE_FLAG_ZSTD 0x0001u			/* DATA: one zstd frame, else raw */

/* Frames. A payload is refused by its header alone, before memory is taken. */
#define WIRE_HEADER_BYTES 16u
#define WIRE_CONTROL_MAX_BYTES (1u << 20)	/* payload of a control message */
#define WIRE_DATA_MAX_BYTES (256u << 10)	/* payload of DATA, never 0 */
#define WIRE_RAW_MAX_BYTES (1u << 20)		/* what a DATA frame may unpack to */

/* Fields of messages. Lengths are in bytes without the final NUL. */
#define WIRE_NAME_MAX 128u			/* [a-zA-Z0-9][a-zA-Z0-9_.-]{0,127} */
#define WIRE_TOKEN_CHARS 32u			/* lower-case hex digits */
#define WIRE_DIGEST_CHARS 64u			/* lower-case hex digits */
#define WIRE_LINE_MAX 512u			/* a line that is shown to a person */
#define WIRE_PATH_MAX 4095u
#define WIRE_JSON_MAX (256u << 10)
#define WIRE_CPU_FEATURES_MAX 1024u
#define WIRE_NEEDS_MAX 256u
#define WIRE_REASONS_MAX 64u
#define WIRE_CONNECTIONS_MAX 8u
#define WIRE_MEMBERS_MAX 64u			/* nodes of a network */
#define WIRE_VERSION_MAX 65535u
#define WIRE_BYTES_MAX (1ull << 56)		/* sizes: sums of a few can't overflow */
#define WIRE_TIME_MAX_US (1ull << 56)		/* durations and times of day */
#define WIRE_ENTRIES_MAX (1ull << 40)

/* "OFFER"; NULL for a number that is no type. */
const char *wire_type_name(unsigned type);
