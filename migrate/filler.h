/*
 * filler.h - the process that fills a restored container's memory from the store
 *
 * A child of the container's monitor. It answers page faults of the restored
 * tasks first and copies the rest in the background, in pieces of 256 KiB, and
 * gives the store's memory back as it goes. When all is copied it exits with 0.
 *
 * The memory exists once, in the store, until it is copied. The monitor keeps a
 * duplicate of every userfaultfd until the filler has exited, because closing
 * the last one would let the container read zeroes where its memory should be.
 * If the filler dies early the monitor kills the container.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "engine/base/error.h"
#include "migrate/store.h"

struct filler {
	pid_t pid;
	int pidfd;			/* readable when it has exited; owned */
	int uffds_fd;			/* socket over which the duplicates came; owned */
	int *uffds;			/* duplicates, owned */
	size_t n_uffds;
};

/* Forks the filler, which listens for CRIU in images_fd (borrowed) before this
 * returns. The store is the one of the parent at this moment, sealed; the
 * parent can free it. */
int filler_start(int images_fd, const struct store *s, struct filler *ret, struct error *err);

/* After criu_restore: collects the duplicates. */
int filler_collect(struct filler *f, struct error *err);

/* The filler has exited (waited for here): 0, or -EIO when memory is missing.
 * Frees everything. */
int filler_finish(struct filler *f, struct error *err);

/* Kills and reaps it; for a container that is dead itself. */
void filler_stop(struct filler *f);
