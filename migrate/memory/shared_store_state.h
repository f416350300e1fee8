/*
 * shared_store_state.h - inside of a store of shared objects; for shared_store.c,
 * which takes them, and shared_store_file.c, which keeps them in a checkpoint
 */
#pragma once

#include "migrate/memory/shared_allocator.h"
#include "migrate/memory/shared_store.h"

struct stored_object {
	uint32_t number;
	struct pages_object about;
	int fd;				/* -EBADF: its pages are in a page store */
	uint64_t size;
};

struct shared_store {
	struct store *pages;		/* NULL: each object is a file */
	const struct tmpfs *tmpfs;
	struct shared_allocator allocator;
	struct stored_object *objects[SHARED_STORE_OBJECTS_MAX];
	size_t n;
};
