/*
 * tmpfs.h - the container's tmpfs mounts, filled before it lives
 *
 * A restore mounts them as they are (engine/rootfs.h), so what has arrived in them
 * is not copied again. Until then they are mounted nowhere, and gone with the last
 * descriptor.
 *
 *   CLEANUP(tmpfs_closep) struct tmpfs t = TMPFS_EMPTY;
 *   r = tmpfs_make(spec, &t, err);
 *   ... files of shared objects are made in tmpfs_top(&t, ...) ...
 *   r = tmpfs_unpack(&t, "/dev/shm", shared, read, ctx, err);
 *   r = tmpfs_complete(&t, spec, err);
 *   ... restore_go hands the mounts to the monitor ...
 */
#pragma once

#include "engine/image/tree.h"
#include "engine/rootfs.h"
#include "migrate/memory/shared_store.h"

struct tmpfs {
	/* By the index of rootfs_tmpfs; -EBADF where there is none. */
	int mounts[ROOTFS_TMPFS_MAX];
	int tops[ROOTFS_TMPFS_MAX];	/* their top folders */
	const struct userns *ids;	/* the container's, borrowed from the spec; NULL: not made yet */
};
#define TMPFS_EMPTY { { -EBADF, -EBADF, -EBADF, -EBADF }, { -EBADF, -EBADF, -EBADF, -EBADF }, NULL }

/* s outlives it. */
int tmpfs_make(const struct spec *s, struct tmpfs *ret, struct error *err);
void tmpfs_closep(struct tmpfs *t);

/* The top folder of the mount that a path of the container is in, borrowed; -EPROTO
 * when it is in none. */
int tmpfs_top(const struct tmpfs *t, const char *path, int *ret_fd, struct error *err);

/* Unpacks the tree of a mount point, whose owners are ids inside; files that are objects of shared
 * get their names, and what the others hold is memory as shared's is. */
int tmpfs_unpack(const struct tmpfs *t, const char *mount_point, struct shared_store *shared,
		 tree_read_fn read, void *ctx, struct error *err);

/* All is there: they may hold what the specification says. */
int tmpfs_complete(const struct tmpfs *t, const struct spec *s, struct error *err);
