/*
 * checksum.h - XXH3 (64 bits), running and in one go
 *
 * Against damage, not against malice. What a tree is worth is compared at its
 * end: TREE_END carries the checksum and the number of its raw bytes.
 *
 *	CLEANUP(checksum_freep) struct checksum *sum = NULL;
 *	r = checksum_new(&sum, err);
 *	checksum_update(sum, block.data, block.len);	for each block
 *	... checksum_value(sum), checksum_bytes(sum)
 *	checksum_reset(sum);				for the next tree
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"

struct checksum;

int checksum_new(struct checksum **ret, struct error *err);
void checksum_free(struct checksum *sum);
DEFINE_CLEANUP(struct checksum *, checksum_free)

void checksum_reset(struct checksum *sum);
void checksum_update(struct checksum *sum, const void *data, size_t len);

/* Of everything since the last reset; more may follow. */
uint64_t checksum_value(const struct checksum *sum);
uint64_t checksum_bytes(const struct checksum *sum);

/* Of one piece of memory (NULL is fine when len is 0). */
uint64_t checksum_of(uint64_t seed, const void *data, size_t len);
