/*
 * memory_receive.h - rounds of pages from a peer into the page store, and of
 * shared objects into theirs
 */
#pragma once

#include "migrate/channel.h"
#include "migrate/shared_store.h"
#include "migrate/store.h"

/* What the source says its memory hashes to (--verify). */
struct memory_hashes {
	struct memory_hash {
		uint32_t pid;
		uint64_t value;
	} *list;
	size_t n;
};

/* The MEMORY tree that has begun, to its end. Hashes are added to the list,
 * which the caller frees. */
int memory_receive(struct channel *ch, struct store *s, struct shared_store *shared,
		   struct memory_hashes *hashes, struct error *err);

/* After store_seal. -EBADMSG names the process, or the shared object, whose memory
 * differs. */
int memory_verify(const struct store *s, const struct shared_store *shared,
		  const struct memory_hashes *hashes, struct error *err);
