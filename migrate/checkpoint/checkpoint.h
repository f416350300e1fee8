/*
 * checkpoint.h - a container in a directory, and back
 *
 *   DIR/config.json    spec.h
 *   DIR/image.json     which image it needs: {"name","digest"}
 *   DIR/images/        CRIU's images of everything but its memory
 *   DIR/memory/        its memory: store_file.h; shared objects: shared_store.h
 *   DIR/upper.tar      its changes to the image: engine/image/tree.h
 *   DIR/tmpfs/P.tar    files of its tmpfs mount P, its slashes as "_"
 *   DIR/meta/          checkpoint.json (manifest.h), its log
 *   DIR/criu/          on request: all of it as CRIU would have written it, and a
 *                      script that restores it with CRIU alone: criu_images.h
 *   DIR/sums.json      sums.h: what all of these files were, but memory/pages,
 *                      whose pages have their sums in memory/index
 *
 * A checkpoint is a migration into a directory: the source's half (source.h) sends
 * to a process that writes (checkpoint_write.c) over the same protocol, in the same
 * stages. Memory goes in rounds while the container runs; then it stands still
 * for what is left, and with leave_running goes on as soon as that is on its way.
 * The directory is filled under another name and appears when all of it is on
 * disk (checkpoint_dir.h).
 *
 * A restore is the target's half (restore.h): it starts the container before its
 * memory is read, which the filler (filler.h) does while it runs, what is
 * touched first.
 */
#pragma once

#include "engine/container.h"
#include "migrate/source.h"

struct checkpoint_options {
	const char *dir;		/* is made and must not exist */
	bool leave_running;		/* else the container ends when the checkpoint is on disk; its
					   folder stays, as exited */
	bool criu_images;		/* DIR/criu, too */
	struct policy_limits policy;
	enum tracker_kind tracker;	/* as for a migration */
	uint64_t rate;			/* bytes a second of the rounds; 0: any */
	const volatile sig_atomic_t *cancelled;
	void (*progress)(void *ctx, const char *phase, const struct channel_stats *stats);
	void *ctx;
};

struct checkpoint_report {
	struct source_report source;	/* downtime_us: how long it stood still */
	uint64_t bytes;			/* of the checkpoint on disk */
};

/* c is locked by the caller, who is single-threaded. On failure the container goes
 * on and nothing of dir is left, unless the error says that it is complete. */
int checkpoint_save(struct container *c, const struct checkpoint_options *options,
		    struct checkpoint_report *report, struct error *err);

struct checkpoint_restore_options {
	const char *dir;
	const char *name;		/* NULL: its own */
	bool verify;			/* read and compare all memory before it runs */
};

/* Of a restore under way: the container runs. */
struct checkpoint_restored {
	char name[SPEC_NAME_MAX + 1];
	uint64_t resume_us;		/* from the call until it ran */
	pid_t filler;			/* our child, which reads its memory */
};

/* Makes a container of a checkpoint and lets it run. Every file is compared with
 * its sum before it is used, every page of memory before the container gets it.
 * The checkpoint stays and can be restored again. */
int checkpoint_restore(const struct node *node, const struct checkpoint_restore_options *options,
		       struct checkpoint_restored *ret, struct error *err);

/* Waits until all of its memory is there; not needed for that. On failure the
 * container was killed by its monitor, as a page can't be read or is damaged. */
int checkpoint_restore_wait(const struct node *node, const struct checkpoint_restored *r, struct error *err);
