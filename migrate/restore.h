/*
 * restore.h - making a dumped container live again: the target's half of a
 * migration and of `godwit restore` alike
 *
 * The work is done by the new container's monitor, whose child the container
 * will be. Whoever asked for it talks with the monitor over its control socket:
 *
 *	asker                           monitor
 *	                            <-  PREPARED	namespaces, interface (closed),
 *							cgroup, CRIU warm; with its
 *							list of shared memory
 *	GO with the workdir, the
 *	filler's ends, and mounts   ->
 *	                            <-  DONE		restored, complete, frozen
 *	COMMIT                      ->
 *	                            <-  RESUMED		it runs and may speak
 *	OPEN                        ->			what came for it before is delivered
 *	                            <-  MONITOR_STARTED
 *
 * What the restored sockets send goes out at the resume. What comes for the container
 * directly waits from then until OPEN, or for RESTORE_OPEN_US, so that it comes after
 * what the asker has from the source.
 *
 * When the asker goes away before COMMIT, or anything fails, the monitor kills
 * the copy, removes all of it with its folder, and decides the token as
 * refused, so that the source can thaw the original.
 */
#pragma once

#include "engine/monitor/monitor.h"
#include "migrate/manifest.h"
#include "migrate/memory/filler.h"
#include "migrate/timeline.h"
#include "migrate/tmpfs.h"
#include "migrate/token.h"

#define RESTORE_OPEN_US 100000

struct restore_plan {
	const char *token;		/* NULL: nobody asks what became of it */
};

struct restore_times {
	uint64_t restore_us;		/* GO to DONE */
	uint64_t resume_us;		/* COMMIT to RESUMED */
	uint64_t resumed_real_us;
	pid_t pid;
	/* Step by step: restore is begun by the caller, before restore_go, and holds
	 * what went before it too. */
	struct timeline restore, resume;
};

/* Forks the monitor of c (locked, status incoming) and waits for PREPARED. */
int restore_begin(struct container *c, const struct restore_plan *plan, int *ret_control,
		  struct prepared **ret_prepared, struct error *err);

/* workdir_fd (borrowed) has CRIU's images, which are made lazy here, and the
 * sealed store the memory: a filler, *ret_filler, is started for it. The store may
 * be freed afterwards; shared (NULL: there is none) is needed until this returns. The
 * mounts of tmpfs are used as they are. While it takes long, on_wait is called now and
 * then (may be NULL). */
int restore_go(int control, const struct container *c, struct prepared *prepared, int workdir_fd,
	       struct store *store, struct shared_store *shared, const struct tmpfs *tmpfs, struct filler *ret_filler,
	       void (*on_wait)(void *ctx), void *ctx, struct restore_times *times, struct error *err);

/* -ECANCELED when the token was refused before. */
int restore_commit(int control, struct restore_times *times, struct error *err);

/* Nothing more is to be delivered first. */
void restore_open(int control);
