/*
 * manifest.h - what a restore must know besides CRIU's images: checkpoint.json
 *
 * Made at the dump, in the META tree of a migration and at the top of a
 * checkpoint directory. From a peer or a file, so parsing checks everything.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"
#include "engine/image/tree.h"
#include "engine/monitor/health.h"

#define MANIFEST_VERSION 2
#define MANIFEST_JSON "checkpoint.json"
#define MANIFEST_MOUNTS_MAX 256

struct manifest {
	unsigned criu_version;
	char **external_mounts;		/* mount points; NULL-terminated */
	char **tmpfs;			/* those of them whose files are carried along */
	uint64_t pipe_inodes[3];	/* stdio pipes at the dump; 0: none */
	bool was_paused;
	uint32_t migrations;
	uint64_t started_us, frozen_at_us;	/* real time */
	uint32_t restarts, oom_kills;		/* container.h; 0 in older ones */
	struct health health;
	char files[TREE_DIGEST_SIZE];	/* tree_digest_exact of its changes to files; empty: nobody asked */
	uint64_t log_bytes;		/* its log at the dump; what came later is not of it */
};

void manifest_free(struct manifest *m);
DEFINE_CLEANUP(struct manifest *, manifest_free)

int manifest_write(int dirfd, const struct manifest *m, struct error *err);
int manifest_read(int dirfd, struct manifest **ret, struct error *err);
