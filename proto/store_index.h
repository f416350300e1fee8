/*
 * store_index.h - the index of a page store on disk: which page is in which slot
 *
 *	offset	size
 *	0	4	magic		STORE_INDEX_MAGIC
 *	4	4	version		STORE_INDEX_VERSION
 *	8	4	bytes of a page	PAGES_SIZE
 *	12	4	0
 *	16	8	number of slots
 *	24	8	number of extents
 *	32		extents, 32 bytes each
 *	...		sums, 8 bytes each: of every slot, XXH3-64 of its page
 *
 * An extent is pages that are neighbours in an address space and in the store:
 *
 *	0	4	pid of the address space's process, in the container
 *	4	4	0
 *	8	8	address of the first page
 *	16	8	number of pages
 *	24	8	slot of the first page
 *
 * All little-endian. Extents are in ascending order of pid and address and don't
 * overlap. A slot that no extent has is not in use, and its sum means nothing.
 *
 * Codec: bytes in, structs out. An index comes from a file, all of it is checked.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "engine/base/error.h"

#define STORE_INDEX_MAGIC 0x58504747u		/* "GGPX" in memory */
#define STORE_INDEX_VERSION 1u
#define STORE_INDEX_HEAD_BYTES 32u
#define STORE_INDEX_EXTENT_BYTES 32u
#define STORE_INDEX_SUM_BYTES 8u

struct store_index {
	uint64_t n_slots, n_extents;
	const uint8_t *extents, *sums;	/* into the caller's bytes */
};

struct store_extent {
	uint32_t pid;
	uint64_t address, n_pages, slot;
};

void store_index_encode_head(uint64_t n_slots, uint64_t n_extents, uint8_t ret[STORE_INDEX_HEAD_BYTES]);
void store_index_encode_extent(const struct store_extent *e, uint8_t ret[STORE_INDEX_EXTENT_BYTES]);
void store_index_encode_sum(uint64_t sum, uint8_t ret[STORE_INDEX_SUM_BYTES]);

/* data (len bytes) is the whole index. -EPROTO names what is wrong with it. */
int store_index_decode(const void *data, size_t len, struct store_index *ret, struct error *err);

/* i is below n_extents, or n_slots. */
struct store_extent store_index_extent(const struct store_index *index, uint64_t i);
uint64_t store_index_sum(const struct store_index *index, uint64_t i);
