/*
 * gaps.h - the memory of one address space that waits for its content
 *
 * Exactly the pages that are in the page store and not yet in the process:
 * extents in ascending order, each of neighbouring pages in neighbouring slots.
 * What the process does to its mappings meanwhile (userfaultfd's events) is
 * followed here. No I/O.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "engine/base/error.h"

struct gap {
	uint64_t address;
	uint64_t n_pages;
	uint64_t slot;
};

struct gaps {
	struct gap *list;
	size_t first, n, size;		/* list[first], ..., list[n - 1] */
};

void gaps_clear(struct gaps *g);

/* Behind everything that is there. */
int gaps_append(struct gaps *g, uint64_t address, uint64_t n_pages, uint64_t slot,
		struct error *err);

int gaps_copy(const struct gaps *g, struct gaps *ret, struct error *err);

/* The gap at address (of any byte in it) or NULL. Valid until the next change. */
const struct gap *gaps_find(const struct gaps *g, uint64_t address);

/* The first one or NULL. Valid until the next change. */
const struct gap *gaps_first(const struct gaps *g);

/* Called for what goes away. */
typedef void (*gaps_release_fn)(void *ctx, uint64_t slot, uint64_t n_pages);

/* Nothing in [start, end) is a gap any more. */
int gaps_remove(struct gaps *g, uint64_t start, uint64_t end, gaps_release_fn release, void *ctx,
		struct error *err);

/* mremap(2): what was at from is at to; what was at to is gone. */
int gaps_move(struct gaps *g, uint64_t from, uint64_t to, uint64_t len, gaps_release_fn release,
	      void *ctx, struct error *err);
