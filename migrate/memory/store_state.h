/*
 * store_state.h - inside of a page store; for store.c, which takes pages,
 * store_sealed.c, which hands them out, and store_file.c, which keeps it on disk
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "migrate/memory/page_index.h"
#include "migrate/memory/store.h"

struct space {
	uint32_t pid;
	uint64_t populated_end;
	struct page_index index;
};

struct store {
	pthread_mutex_t *lock;		/* of all below while pages come */
	int fd;
	uint8_t *map;			/* NULL: on disk */
	size_t len;
	uint64_t *sums;			/* of pages on disk, by slot */
	size_t sums_size;
	uint64_t unwritten;		/* bytes since the kernel was asked to write them to disk */
	uint64_t max_pages;
	uint64_t n_slots;		/* handed out so far */
	uint32_t *freed;		/* a stack */
	size_t n_freed, freed_size;
	struct space *spaces;		/* by pid */
	size_t n_spaces, spaces_size;
	size_t n_chunks;
	uint64_t overwritten;
	bool sealed;
};

/* NULL when there is none. */
struct space *store_space(const struct store *s, uint32_t pid);

/* Address and count are memory, and the store takes some still. */
int store_check_range(const struct store *s, uint32_t pid, uint64_t address, uint64_t n,
		      struct error *err);

/* Of n pages, those that have a slot give it back; all of them become this. */
int store_free_slots(struct store *s, uint32_t *pages, size_t n, uint32_t becomes,
		     struct error *err);

/* n pages from address on are in slots that are in use already, from slot on. */
int store_adopt(struct store *s, uint32_t pid, uint64_t address, uint64_t n, uint64_t slot,
		struct error *err);

/* Nothing more comes; what is there stays as it is. */
void store_close(struct store *s);

static inline bool page_is_slot(uint32_t page)
{
	page &= ~PAGE_KEEP;
	return page != PAGE_UNKNOWN && page != PAGE_ZERO;
}
