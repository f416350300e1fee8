/*
 * store_file.h - a page store that outlives its process: in a checkpoint
 *
 *   memory/pages   the slots, one behind the other; unused ones are holes
 *   memory/index   proto/store_index.h: which page is where, and the sum of each
 *
 *   r = store_new_in(pages_fd, max_pages, &s, err);
 *   ... store_put, store_populated, store_seal ...
 *   r = store_save(s, memory_fd, err);
 *
 *   r = store_load(index, len, pages_fd, &s, err);	sealed: store_walk, store_read
 */
#pragma once

#include "migrate/memory/store.h"

#define STORE_PAGES "pages"
#define STORE_INDEX "index"

/* Writes STORE_INDEX of a sealed store on disk into dirfd (borrowed), and gives
 * back what no page is in. Nothing is synced. */
int store_save(struct store *s, int dirfd, struct error *err);

/* index (len bytes) as store_save wrote it; pages_fd is consumed, also on failure. The
 * store is sealed. -EPROTO and -EBADMSG when the two are no page store. */
int store_load(const void *index, size_t len, int pages_fd_consumed, struct store **ret, struct error *err);

/* Reads all of it. -EBADMSG when a page is not what was put. */
int store_check(const struct store *s, struct error *err);
