/*
 * page_index.h - one address space's pages -> slots of the page store
 *
 * A table of two levels: chunks of 512 pages (2 MiB), found by a hash, and in
 * each a number of 4 bytes a page. A chunk that is known to be all zero has no
 * second level, so that a wide empty range costs 16 bytes for 2 MiB.
 *
 * No I/O and no bounds of its own: the store counts the chunks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/error.h"

#define CHUNK_PAGES 512u

/* What stands for a page. Every other number is a slot + 1. */
#define PAGE_UNKNOWN 0u
#define PAGE_ZERO 0x7fffffffu
#define PAGE_KEEP 0x80000000u		/* a mark beside the number */

struct page_chunk {
	uint64_t number : 63;		/* address / 2 MiB */
	uint64_t kept : 1;		/* all of it has PAGE_KEEP, without the marks */
	uint32_t *pages;		/* CHUNK_PAGES, or NULL: all PAGE_ZERO */
};

struct page_index {
	struct page_chunk *chunks;
	size_t n, capacity;
	uint32_t *table;		/* open addressing: place in chunks + 1, or 0 */
	size_t table_size;		/* a power of two */
};

/* Frees what the index holds, and leaves it empty and usable. */
void page_index_clear(struct page_index *index);

/* NULL when there is none. The pointer is valid until the next page_index_add
 * or page_index_sort. */
struct page_chunk *page_index_find(const struct page_index *index, uint64_t number);

/* A new chunk, all zero; number must not be there yet. */
int page_index_add(struct page_index *index, uint64_t number, struct page_chunk **ret,
		   struct error *err);

/* Gives the chunk its second level, each page as what it was: all zero
 * (PAGE_ZERO), or in a chunk that was just added PAGE_UNKNOWN. */
int page_chunk_expand(struct page_chunk *chunk, uint32_t page, struct error *err);

/* Brings the chunks into ascending order. */
void page_index_sort(struct page_index *index);
