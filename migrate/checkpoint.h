/*
 * checkpoint.h - a container in a directory, and back
 *
 *   DIR/config.json   spec.h
 *   DIR/image.json    which image it needs: {"name","digest"}
 *   DIR/images/       CRIU's images
 *   DIR/sums.json     sums.h: what they were
 *   DIR/upper/        its changes to the image
 *   DIR/tmpfs/P/      files of its tmpfs mounts
 *   DIR/meta/         checkpoint.json (manifest.h), its log
 *
 * The same halves as a migration: dump.h fills it, restore.h reads it.
 */
#pragma once

#include "engine/container.h"

struct checkpoint_report {
	uint64_t total_us;
	uint64_t frozen_us;		/* how long it stood still */
	uint64_t bytes;			/* of the checkpoint */
};

/* c is locked by the caller. dir is made and must not exist, or be empty.
 * Without leave_running the container ends when the checkpoint is complete and
 * synced to disk; its folder stays, as exited. On failure it runs on, and dir
 * is removed if it was made. */
int checkpoint_save(struct container *c, const char *dir, bool leave_running,
		    struct checkpoint_report *report, struct error *err);

/* Makes a container of a checkpoint and lets it run; name NULL: its own. The
 * checkpoint stays and can be restored again. *ret_name is the caller's. */
int checkpoint_restore(const struct node *node, const char *dir, const char *name, char **ret_name,
		       struct checkpoint_report *report, struct error *err);
