/*
 * sent_pages.h - what pages were when they were sent last
 *
 * A hash of 8 bytes a page, so that a page that was written but holds what it
 * held is not sent again. The table does not grow with the container: all of them
 * together take up to 16 MB, which is enough for 8 GiB, and less for what is
 * smaller. Beyond that a page may be forgotten, and is then sent again.
 *
 * Hashes of neighbouring pages are neighbours: a table of chunks of 512 pages.
 * One thread at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"

struct sent_pages;

/* One of as many tables as tables says. */
int sent_pages_new(unsigned tables, struct sent_pages **ret, struct error *err);
void sent_pages_free(struct sent_pages *s);
DEFINE_CLEANUP(struct sent_pages *, sent_pages_free)

/* space names an address space, never another one later. True when the page at
 * this address had this hash the last time; remembers it. */
bool sent_pages_same(struct sent_pages *s, uint64_t space, uint64_t address, uint64_t hash);

