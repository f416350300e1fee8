/*
 * checkpoint_dir.h - the directory of a checkpoint that is being made
 *
 * It is filled under the name .NAME.partial beside its place, where a lock tells
 * one that is being filled from one that a killed process has left, and gets its
 * own name when all of it is on disk: a directory of that name is whole.
 *
 *   r = checkpoint_dir_create(path, &d, err);
 *   ... fill d.fd ...
 *   r = checkpoint_dir_sync(&d, err);
 *   r = checkpoint_dir_appear(&d, err);
 *   checkpoint_dir_closep(&d);
 */
#pragma once

#include <limits.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"

struct checkpoint_dir {
	int parent_fd;
	int fd;				/* where it is filled */
	char name[NAME_MAX + 1], partial[NAME_MAX + 1];
};
#define CHECKPOINT_DIR_EMPTY { .parent_fd = -EBADF, .fd = -EBADF }

/* path must not exist, its parent must. What an earlier attempt has left is
 * removed. -EEXIST, or -EBUSY when another process is filling it. */
int checkpoint_dir_create(const char *path, struct checkpoint_dir *ret, struct error *err);

/* Every file and folder below it is on disk. fsync(2) */
int checkpoint_dir_sync(const struct checkpoint_dir *d, struct error *err);

/* Gives it its name, durably; fails when that was taken meanwhile. */
int checkpoint_dir_appear(const struct checkpoint_dir *d, struct error *err);

/* Removes it, if it has no name yet. */
void checkpoint_dir_discard(const struct checkpoint_dir *d);
void checkpoint_dir_closep(struct checkpoint_dir *d);
