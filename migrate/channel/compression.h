/*
 * compression.h - which zstd level is worth its time on this link
 *
 * Pure arithmetic, no clock and no I/O. A byte costs the time to compress it and
 * the time to send what is left of it (or to wait for a peer that can't keep up,
 * which no level makes faster). The sum is measured for each level that was tried,
 * in windows of a few megabytes, and the cheapest level is taken; not compressing
 * at all is one of them. A level beside it is tried for one window now and then:
 * less and less often as long as that brings nothing.
 *
 * Memory that does not shrink (already compressed, encrypted) is given up on
 * block by block, as long as compressing is what takes the time.
 *
 *	level = compression_level(&c);
 *	... compress, send ...
 *	compression_note(&c, level, raw_bytes, wire_bytes, compress_us, send_us);
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/error.h"

#define COMPRESSION_AUTO 1000		/* no level: follow the link */
#define COMPRESSION_LEVELS 5

struct compression {
	int fixed;			/* a level of block.h, or COMPRESSION_AUTO */
	unsigned now, best;		/* into the table of levels */
	struct {
		double cost;		/* us a raw byte; 0: not known */
		bool link_bound;	/* sending took longer than compressing */
		uint64_t next_try, patience;	/* in windows */
	} level[COMPRESSION_LEVELS];
	uint64_t windows;
	struct {
		uint64_t raw, compress_us, send_us;
	} window;
	uint32_t failures, skip;	/* blocks in a row that did not shrink; to leave alone */
};

/* level: COMPRESSION_AUTO or a level of block.h, which then never changes. */
void compression_init(struct compression *c, int level);

/* For the next block. */
int compression_level(const struct compression *c);

/* A block has been sent, at the level that compression_level said. */
void compression_note(struct compression *c, uint64_t raw_bytes, uint64_t wire_bytes,
		      uint64_t compress_us, uint64_t send_us);

/* "auto" (or NULL), "none", or a zstd level, as people write it. */
int compression_parse(const char *text, int *ret, struct error *err);
