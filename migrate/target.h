/*
 * target.h - the side of a migration that the container arrives at
 *
 * target_serve is one connection from its first byte to its last, in a process
 * of its own; the stage functions are the target's column of stage.h's table.
 */
#pragma once

#include "engine/container.h"
#include "migrate/admission/reservation.h"
#include "migrate/channel/channel.h"
#include "migrate/memory/filler.h"
#include "migrate/memory/memory_receive.h"
#include "migrate/network/held.h"
#include "migrate/restore.h"
#include "migrate/stage.h"

/* A further one has a thread. */
struct target_connection {
	struct target *target;
	unsigned number;
	int door;			/* where the source comes, or comes back */
};

struct target {
	const struct node *node;
	/* Takes the tree that has begun, any but memory: into the container's folders,
	 * or a checkpoint's. */
	int (*take_tree)(struct target *t, const struct message_tree_begin *b, struct error *err);
	struct channel *channel;
	struct channel_peer peer;
	struct message offer;		/* owned */
	bool image_wanted;
	struct reservation reserved;	/* what it will still take */
	struct container *container;	/* incoming; NULL before */
	struct restore_plan plan;
	struct restore_times times;
	struct store *store;		/* its memory */
	struct prepared *prepared;	/* for CRIU: what of that is there */
	struct cgroup *cgroup;		/* the container's, once there is one */
	struct shared_store *shared;
	struct tmpfs tmpfs;
	struct held_frames held;	/* came for it while it moved */
	struct injector *past_gate, *by_gate;	/* into its interface */
	struct memory_hashes hashes;	/* that the source has told */
	uint64_t rounds;		/* trees of memory before the freeze */
	uint64_t files_bytes;		/* contents of files that have come */
	struct filler filler;		/* gives it to the restored tasks */
	int control;			/* to its monitor */
	int workdir;
	struct target_connection connections[WIRE_CONNECTIONS_MAX];	/* that memory comes over */
	struct target_lanes *lanes;	/* all but the first, or NULL */
	int successor;			/* who waits for us to give up, until we end */
	bool committed;
	bool opened;			/* its gate */
	uint64_t first_us;		/* how long it may take to say what it wants; 0: any time */
	bool *spoken;			/* set when it has offered something; may be NULL */
	void (*log)(void *ctx, const char *line);
	void *ctx;
};

/* Speaks with the peer behind fd (consumed) until one side hangs up. log gets
 * a line when something begins, succeeds or fails. A peer that has not said what
 * it wants after CHANNEL_GREET_US is left; *spoken (may be NULL) becomes true when
 * it has offered something: until then this process may be killed for another. */
int target_serve(const struct node *node, int fd_consumed, bool *spoken,
		 void (*log)(void *ctx, const char *line), void *ctx, struct error *err);

/* The conversation of a target that has node, take_tree, log and the empty values
 * of TARGET_EMPTY, and its channel, by its table, from the greeting on. */
int target_run(struct target *t, const struct migrate_stage table[STAGE_MAX_],
	       struct error *err);
#define TARGET_EMPTY .control = -EBADF, .workdir = -EBADF, .successor = -EBADF, .filler = FILLER_EMPTY, \
		     .connections[0] = { .door = -EBADF }, .tmpfs = TMPFS_EMPTY

/* Unpacks the tree that has begun into a folder (borrowed). */
int target_unpack(struct target *t, int place, struct error *err);

/* Takes the tree that m begins. */
int target_take_tree(struct target *t, const struct message *m, struct error *err);

/* A line for the daemon's log. */
void target_say(const struct target *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A tree of memory on the first connection, which has begun. */
int target_receive_memory(struct target *t, struct error *err);

/* Its page store, as large as the memory that is to be had. */
int target_make_store(struct target *t, struct error *err);

int target_negotiate(struct target *t, struct error *err);
int target_prepare(struct target *t, struct error *err);
int target_precopy(struct target *t, struct error *err);
int target_transfer(struct target *t, struct error *err);
int target_restore(struct target *t, struct error *err);
int target_commit(struct target *t, struct error *err);
int target_sync(struct target *t, struct error *err);
int target_release(struct target *t, struct error *err);

/* QUERY or RELEASE instead of an OFFER: in t->offer. */
int target_answer(struct target *t, struct error *err);
void target_forget(struct target *t);
void target_tear_down(struct target *t);
