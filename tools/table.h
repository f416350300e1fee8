/*
 * table.h - columns for people: each as wide as its widest cell
 */
#pragma once

#include <stddef.h>

#include "engine/base/cleanup.h"

struct table;

/* Headings of the columns, NULL-terminated, borrowed. NULL: out of memory. */
struct table *table_new(const char *const *headings);
void table_free(struct table *t);
DEFINE_CLEANUP(struct table *, table_free)

/* One row: as many cells as there are headings; they are copied. Out of memory
 * loses the row and is told by table_print. */
void table_add(struct table *t, const char *const *cells);

/* To stdout; 0 or -errno. */
int table_print(const struct table *t);
