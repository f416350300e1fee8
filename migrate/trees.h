/*
 * trees.h - directory trees over a channel, and between directories
 */
#pragma once

#include "engine/image/tree.h"
#include "migrate/channel/channel.h"

/* Sends everything below dirfd (borrowed) as one TREE. */
int trees_send(struct channel *ch, enum message_tree_kind kind, const char *label, int dirfd,
	       struct error *err);

/* As trees_send, without the contents that go another way (engine/image/tree.h). */
int trees_send_contents(struct channel *ch, enum message_tree_kind kind, const char *label, int dirfd,
			const struct tree_contents *contents, struct error *err);

/* A tree_read_fn over the TREE that has begun; ctx is the channel. */
ssize_t trees_read(void *ctx, const void **ret_data, struct error *err);

/* Unpacks the TREE that has begun into dirfd (borrowed). */
int trees_receive(struct channel *ch, int dirfd, const struct tree_limits *limits, struct error *err);

/* As trees_receive, of a stream of changes (engine/image/tree.h). *ret_bytes: of contents. */
int trees_receive_changes(struct channel *ch, int dirfd, const struct tree_limits *limits, uint64_t *ret_bytes,
			  struct error *err);

/* Packs and unpacks an empty folder of its own, and so loads libarchive with all that it
 * brings: some milliseconds, which a container that stands still need not wait for. */
void trees_warm_up(void);
