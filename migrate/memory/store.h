/*
 * store.h - the pages of a container before it lives: on the target, or in a checkpoint
 *
 * A file with a slot for each page of each address space; later
 * rounds overwrite a page in its slot. Beside it an index: address space ->
 * page -> slot, a slot number of 4 bytes a page: 1 MB for each GB, the one thing
 * beside the pages themselves that grows with the container. Address spaces are named by
 * the process's pid in the container; above PAGES_PID_MAX they are shared objects
 * of a checkpoint (shared_store.h). Slots are handed out in the order of
 * arrival, those that came back first.
 *
 * New pages are written into the file, not through its mapping: 2.4 GB/s
 * instead of 1.4, since nothing is cleared and faulted in first. A file in memory
 * grows as it is written, on a tmpfs with huge=within_size (tmpfs(5)): so the kernel
 * takes folios no larger than what is written, clears none of it, and it takes 8 GB/s
 * where memory is at hand, and a tenth of the time to give it back. (In a virtual machine
 * that has told its host which pages are free it is 1 GB/s in any case.)
 *
 * Everything that is put in comes from a peer: addresses, counts and the total
 * are bounded; what is wrong with it is -EPROTO, too much of it -ENOSPC.
 *
 * The file is memory (store_new), or one that a checkpoint keeps (store_new_in).
 * Of the latter each page has a sum (checksum.h) from when it is put, and what
 * doesn't fit it is not handed out; store_file.h keeps the rest of such a store.
 *
 *   r = store_new(max_pages, &s, err);
 *   r = store_put(s, pid, address, data, n, err);	rounds
 *   r = store_populated(s, pid, start, end, err);	at the freeze
 *   r = store_seal(s, err);
 *   r = filler_start(images_fd, folder_fd, s, &filler, err);
 *
 * One thread at a time; but store_put, store_put_zero, store_drop and store_stats of a
 * store in memory may be called by several at once, each for pages of its own.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"

#define STORE_PAGE 4096u
#define STORE_PAGES_MAX 0x7ffffffeu	/* that a store can have */

struct store;

/* max_pages bounds the slots that a peer may fill. */
int store_new(uint64_t max_pages, struct store **ret, struct error *err);

/* In a file on disk, which is empty; consumed, also on failure. It is written
 * to disk as it fills, so that not all of it is to be written in the end. */
int store_new_in(int fd_consumed, uint64_t max_pages, struct store **ret, struct error *err);
void store_free(struct store *s);
DEFINE_CLEANUP(struct store *, store_free)

/* n pages from address on (page-aligned, below 2^57) of address space pid, pages
 * of STORE_PAGE bytes. */
int store_put(struct store *s, uint32_t pid, uint64_t address, const void *data, size_t n,
	      struct error *err);

/* The pages are zero: their slots are given back. */
int store_put_zero(struct store *s, uint32_t pid, uint64_t address, uint64_t n, struct error *err);

/* The address space is void (its process has executed): of its pages those that came
 * over this one of so many connections (pages_connection) are given back. */
int store_drop(struct store *s, uint32_t pid, unsigned part, unsigned parts, struct error *err);

/* Says what of an address space is populated at the freeze. Ranges of one
 * address space come in ascending order. Pages of the store outside of them are
 * given back by store_seal; of shared objects nothing is said. A page in a range that was never put (nor put as
 * zero) is -EPROTO: the peer has forgotten it. After store_seal nothing can be
 * put any more (-EINVAL). */
int store_populated(struct store *s, uint32_t pid, uint64_t start, uint64_t end, struct error *err);
int store_seal(struct store *s, struct error *err);

struct store_stats {
	uint64_t pages;			/* slots in use */
	uint64_t overwritten;		/* pages that came again */
};
struct store_stats store_stats(const struct store *s);
uint64_t store_max_pages(const struct store *s);	/* as store_new was told */

/* After store_seal. Extents of an address space in ascending order: pages
 * [address, address + n pages) are at slot, slot + 1, ... Address spaces come
 * in the order of their pids. The visitor's negative return ends the walk. */
typedef int (*store_extent_fn)(void *ctx, uint32_t pid, uint64_t address, uint64_t n_pages,
			       uint64_t slot, struct error *err);
int store_walk(const struct store *s, store_extent_fn visit, void *ctx, struct error *err);

/* Of one address space only; an unknown one has no pages. */
int store_walk_space(const struct store *s, uint32_t pid, store_extent_fn visit, void *ctx,
		     struct error *err);

/* After store_seal, for whoever has taken them: these pages are none of the store's any
 * more. Not from a visitor of the same address space. */
int store_take_out(struct store *s, uint32_t pid, uint64_t address, uint64_t n, struct error *err);

/* Slots that store_walk tells are below this one. */
uint64_t store_slots(const struct store *s);

/* Borrowed: the file. A process that keeps the mapping needs it for store_forget. */
int store_fd(const struct store *s);

/* What is in n slots from this one on: at *ret_data, which is the store's own
 * memory, or room (n pages) for a store on disk. -EBADMSG when a page is not what
 * was put, and the error of a disk that can't be read. */
int store_read(const struct store *s, uint64_t slot, size_t n, void *room, const void **ret_data,
	       struct error *err);

/* Gives memory of slots back to the kernel; they read as zero. For whoever has
 * taken what was in them. Of a store on disk nothing is given back. */
void store_forget(const struct store *s, uint64_t slot, uint64_t n);

/* What --verify compares: XXH3-64 over the pages of an address space that are
 * not all zero, in ascending order, of each its address as 8 bytes
 * (little-endian) and its content. The source feeds the same with
 * store_hash_page. An unknown address space has no pages. */
int store_hash(const struct store *s, uint32_t pid, uint64_t *ret, struct error *err);

struct checksum;
void store_hash_page(struct checksum *sum, uint64_t address, const void *page);
