/*
 * shared_sender.h - shared objects into blocks of a channel
 *
 * The records of proto/pages.h, between channel_tree_begin and channel_tree_end;
 * page_sender.h does the same for memory of processes.
 */
#pragma once

#include "migrate/channel/channel.h"
#include "migrate/memory/shared.h"

struct shared_sender {
	struct channel *channel;	/* borrowed */
	uint64_t sent, zero;		/* pages so far */
};

/* As shared_round, shared_last_round and shared_hash. */
int shared_sender_round(struct shared_sender *sender, struct shared *s, uint64_t *ret_us, struct error *err);
int shared_sender_last(struct shared_sender *sender, struct shared *s, bool hashes, struct error *err);
