/*
 * source.h - the side of a migration that the container leaves
 *
 * source_migrate is the whole of it; the stage functions are the source's
 * column of stage.h's table.
 */
#pragma once

#include <signal.h>

#include "criu-glue/criu.h"
#include "engine/network/gate.h"
#include "migrate/admission/reasons.h"
#include "migrate/channel/channel.h"
#include "migrate/files/files.h"
#include "migrate/handover.h"
#include "migrate/lease.h"
#include "migrate/manifest.h"
#include "migrate/memory/memory.h"
#include "migrate/memory/past_downtimes.h"
#include "migrate/memory/policy.h"
#include "migrate/network/held.h"
#include "migrate/protocol.h"
#include "migrate/stage.h"
#include "migrate/timeline.h"

/* One round of memory and the downtime that freezing after it was expected to mean. */
struct source_round {
	struct policy_round round;
	uint64_t predicted_us;
};
#define SOURCE_ROUNDS_TOLD 64

/* Frames that came for it while it stood still. */
struct source_held {
	struct gate_count sent;		/* handed over to the target */
	struct gate_counters gate;	/* all that came to the gate here */
	uint64_t no_room;		/* frames that the gate held, lost: there were too many */
	uint64_t unreceived;		/* datagrams in queues, lost: there was no room for them */
};

/* What is told while it goes on, and what came of it. */
struct source_report {
	char peer[WIRE_NAME_MAX + 1];	/* the target's node name */
	char token[TOKEN_SIZE];
	enum migrate_state state;
	bool runs_there;		/* the target has said so; in doubt is only whether it is on disk */
	uint64_t phase_us[STAGE_MAX_];
	uint64_t total_us;
	uint64_t downtime_us;		/* freeze complete to RESUMED received */
	uint64_t restore_us, resume_us;	/* as the target measured them */
	struct timeline frozen;		/* downtime_us, step by step, here */
	struct timeline restore, resume;	/* the target's part: within the steps of these names */
	uint64_t bytes_raw, bytes_wire;
	uint64_t reconnects, bytes_resent;	/* connections that took the place of a lost one */
	uint64_t predicted_us;		/* the downtime that was expected at the freeze */
	char tracker[16];		/* how writes were followed */
	struct memory_stats memory;
	struct files_stats files;
	struct source_round rounds[SOURCE_ROUNDS_TOLD];	/* the last ones, oldest first */
	size_t n_rounds;		/* the last of a migration that froze is the frozen one */
	struct source_held held;
	enum policy_verdict verdict;	/* why the rounds ended */
	struct reasons reasons;		/* why it may not move */
};

struct source_options {
	const char *host;		/* HOST[:PORT] */
	int level;			/* compression_parse */
	struct policy_limits policy;
	enum tracker_kind tracker;	/* TRACKER_ANY: the best that the kernel has */
	bool whole_trees;		/* all files go while it stands still */
	const char *past_file;		/* cache/NAME: past_downtimes.h; NULL: a move's */
	uint64_t rate;			/* bytes a second of the rounds; 0: any */
	bool verify;			/* compare all memory before the commit */
	unsigned connections;		/* for memory; 0: one */
	uint64_t retry_us;		/* how long to try to come back; 0: not at all */
	uint64_t settle_us;		/* how long to ask a silent target after COMMIT */
	bool drop_frames;		/* instead of holding them while it stands still */
	uint64_t forward_us;		/* how long to send on what still comes here */
	const volatile sig_atomic_t *cancelled;
	/* May be NULL. Called at each phase's begin and some times a second. */
	void (*progress)(void *ctx, const char *phase, const struct channel_stats *stats);
	void *ctx;
};

/* One of those that memory goes over. The first one's channel is the source's. */
struct source_connection {
	struct source *source;
	unsigned number;
	struct channel *channel;
};

struct source {
	const struct node *node;
	struct container *container;
	struct container_state state;
	const struct source_options *options;
	struct source_report *report;
	struct criu criu;
	struct channel *channel;
	struct source_connection connections[WIRE_CONNECTIONS_MAX];
	unsigned n_connections;
	struct channel_peer peer;
	enum protocol_state protocol;	/* from FROZEN on */
	bool asks;			/* over new connections, as the first one says no more */
	bool synced;			/* the target has said so in an answer */
	struct handover handover;
	struct lease_hold lease;
	struct gate *gate;		/* armed; NULL: frames are lost while it is frozen */
	struct held_frames held;	/* until it is clear that it goes on there */
	struct gate *stand_in;		/* of what takes its place when it has left */
	int netns;			/* which keeps that */
	struct cgroup *cgroup;
	struct memory *memory;
	int upper;			/* its changes to files */
	struct files *files;		/* those on their way; NULL: all go at once */
	char files_digest[TREE_DIGEST_SIZE];	/* when they were sent last, if asked for */
	struct carried *carried;
	struct policy decision;
	struct past_downtimes past;
	uint64_t memory_bytes;		/* in the first round */
	uint64_t decided_us;		/* clock_us: no more rounds */
	struct policy_round last_round;
	bool throttled;
	struct manifest *manifest;
	int workdir, images, meta;
	bool image_wanted;
	bool only_asking;
	const struct migrate_stage *stages;	/* its table */
	const char *phase;
};

#define SOURCE_EMPTY .lease = LEASE_HOLD_EMPTY, .workdir = -EBADF, .images = -EBADF, .meta = -EBADF, \
	.netns = -EBADF, .upper = -EBADF

void source_report_free(struct source_report *report);

/* What source_migrate does, by another table: a checkpoint's. s has container,
 * options, report and the empty values of SOURCE_EMPTY, and may have a channel. */
int source_run(struct source *s, const struct migrate_stage table[STAGE_MAX_], struct error *err);
void source_closep(struct source *s);

/* Migrates a container that the caller has opened and locked. Returns 0 when
 * it runs on the target. On failure report->state tells: ROLLED_BACK, it runs
 * here as before; IN_DOUBT, it is frozen here and the target has not said
 * whether it runs there. */
int source_migrate(struct container *c, const struct source_options *options,
		   struct source_report *report, struct error *err);

/* Whether it could move: 0, or 1 with every reason in report->reasons. Nothing
 * is begun. Negative when the target can't be asked; there may be reasons
 * already. Without options->host only what is found here is told. */
int source_check(struct container *c, const struct source_options *options, struct source_report *report,
		 struct error *err);

/* -ECANCELED when somebody has said so. */
int source_check_cancelled(const struct source *s, struct error *err);

int source_negotiate(struct source *s, struct error *err);
int source_prepare(struct source *s, struct error *err);
int source_precopy(struct source *s, struct error *err);
void source_untrack(struct source *s);
int source_dump(struct source *s, struct error *err);

/* Without a gate the container moves all the same, and its clients wait longer. */
void source_arm_gate(struct source *s);

/* What the gate holds goes to the target, and is kept until it has resumed. */
int source_send_held(struct source *s, struct error *err);

/* The container goes on here: it gets all that was held. Before the thaw. */
void source_open_gate(struct source *s);

/* It runs there: what comes here goes there, first of all what is held. */
void source_leave_network(struct source *s);

/* What has come since. */
int source_send_strays(struct source *s);

/* The last that needs the connection, which s no longer has then. */
void source_forward(struct source *s);

/* Frozen: what was written last, and what CRIU leaves out. */
int source_last_round(struct source *s, struct error *err);

/* Dumped, still frozen: what has changed in shared memory meanwhile. */
int source_last_shared(struct source *s, struct error *err);

/* Next: what has changed of its files. Ends the last round. */
int source_last_files(struct source *s, struct error *err);

/* Done: remembers what the downtime cost besides memory. */
void source_learn(struct source *s);

/* Adds what has gone through a channel (NULL: nothing) to the report. */
void source_count_bytes(struct source *s, const struct channel *ch);

int source_transfer(struct source *s, struct error *err);
int source_await_restore(struct source *s, struct error *err);
int source_commit(struct source *s, struct error *err);
int source_sync(struct source *s, struct error *err);
int source_release(struct source *s, struct error *err);
void source_thaw(struct source *s);

/* Lets the container go on. What it was when it stood still can still be sent. */
int source_go_on(struct source *s, struct error *err);
