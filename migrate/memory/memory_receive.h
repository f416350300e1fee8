/*
 * memory_receive.h - rounds of pages from a peer into the page store, and of
 * shared objects into theirs
 */
#pragma once

#include "migrate/channel/channel.h"
#include "migrate/memory/shared_store.h"
#include "migrate/memory/store.h"

/* What the source says its memory hashes to (--verify). */
struct memory_hashes {
	struct memory_hash {
		uint32_t pid;
		uint64_t value;
	} *list;
	size_t n;
};

/* Where pages of a connection go. On a further one there are no shared objects, no
 * hashes and no map. */
struct memory_receiver {
	struct store *store;
	struct shared_store *shared;
	struct memory_hashes *hashes;	/* added to; the caller frees the list */
	unsigned connection, connections;
	/* May be NULL. Before the map is told: all pages of it must be in the store. */
	int (*settle)(void *ctx, struct error *err);
	void *ctx;
};

/* The MEMORY tree that has begun, to its end. */
int memory_receive(struct channel *ch, const struct memory_receiver *r, struct error *err);

/* After store_seal. -EBADMSG names the process, or the shared object, whose memory
 * differs. */
int memory_verify(const struct store *s, const struct shared_store *shared,
		  const struct memory_hashes *hashes, struct error *err);
