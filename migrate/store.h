/*
 * store.h - the pages of a container on the target, before it lives there
 *
 * A memfd with a slot for each page of each address space; later rounds
 * overwrite a page in its slot. Beside it an index: address space -> page ->
 * slot, a slot number of 4 bytes a page. Address spaces are named by the
 * process's pid in the container.
 *
 * Everything that is put in comes from a peer: addresses, counts and the total
 * are bounded.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"

#define STORE_PAGE 4096u

struct store;

/* max_pages bounds the slots that a peer may fill. */
int store_new(uint64_t max_pages, struct store **ret, struct error *err);
void store_free(struct store *s);
DEFINE_CLEANUP(struct store *, store_free)

/* n pages from address on (page-aligned, below 2^57) of address space pid, pages
 * of STORE_PAGE bytes. store_place gives memory to receive straight into:
 * *ret_n pages at *ret_data, at most n, valid until the next call. */
int store_put(struct store *s, uint32_t pid, uint64_t address, const void *data, size_t n,
	      struct error *err);

/* The pages are zero: their slots are given back. */
int store_put_zero(struct store *s, uint32_t pid, uint64_t address, uint64_t n, struct error *err);

/* The address space is void (its process has executed): all of it is given back. */
void store_drop(struct store *s, uint32_t pid);

/* Says what of an address space is populated at the freeze. Ranges come in
 * ascending order, each address space's in one or more calls. Pages of the
 * store outside of them are given back by store_seal. A page in a range that
 * was never put (nor put as zero) is -EPROTO: the peer has forgotten it. */
int store_populated(struct store *s, uint32_t pid, uint64_t start, uint64_t end, struct error *err);
int store_seal(struct store *s, struct error *err);

struct store_stats {
	uint64_t pages;			/* slots in use */
	uint64_t overwritten;		/* pages that came again */
};
struct store_stats store_stats(const struct store *s);

/* After store_seal. Extents of an address space in ascending order: pages
 * [address, address + n pages) are at slot, slot + 1, ... of the memfd. The
 * visitor's negative return ends the walk. */
typedef int (*store_extent_fn)(void *ctx, uint32_t pid, uint64_t address, uint64_t n_pages,
			       uint64_t slot, struct error *err);
int store_walk(const struct store *s, store_extent_fn visit, void *ctx, struct error *err);

/* Borrowed: the memory itself, for a filler in another process. */
int store_fd(const struct store *s);

/* XXH3-64 over the address space's pages and addresses, in order: equals what
 * the source computes over its own (--verify). */
int store_hash(const struct store *s, uint32_t pid, uint64_t *ret, struct error *err);
