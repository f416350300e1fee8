/*
 * mounts.h - mounting below a container's root by descriptors
 *
 * Every path inside a container is resolved with openat2(2) RESOLVE_IN_ROOT, so
 * that its symlinks can't lead out of root_fd (borrowed, a directory); mounts
 * are made detached with fsopen(2), fsmount(2), open_tree(2) and then placed
 * with move_mount(2). Attributes are MOUNT_ATTR_* of mount_setattr(2).
 *
 * Nothing is undone on failure: the end of the mount namespace does that.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/base/error.h"

/* Opens a path inside root (flags as for openat2), never outside it. */
int mounts_open(int root_fd, const char *path, int flags, mode_t mode, int *ret_fd,
		struct error *err);

/* mkdir -p below root; the last part becomes a file when dir is false. */
int mounts_make_point(int root_fd, const char *path, bool dir, struct error *err);

/* Puts a detached mount (consumed) at a path of the container. */
int mounts_place(int mount_fd, int root_fd, const char *path, struct error *err);

/* A new, detached file system; options are divided by commas, NULL: none. */
int mounts_make_fs(const char *type, const char *options, unsigned attrs, int *ret_fd,
		   struct error *err);

/* The same with a source, as mount(8) names a device. */
int mounts_make_fs_from(const char *type, const char *source, const char *options, unsigned attrs,
			int *ret_fd, struct error *err);

/* Binds what source_fd (borrowed, may be O_PATH) refers to, with more attributes; the ids
 * mapped by userns_fd, unless that is -EBADF. */
int mounts_bind(int source_fd, bool recursive, uint64_t attrs, int userns_fd, int root_fd,
		const char *path, struct error *err);

/* The owners of files of a detached mount (borrowed) as the user namespace maps them: id 0 on
 * disk is its root. mount_setattr(2) MOUNT_ATTR_IDMAP. */
int mounts_map_ids(int tree_fd, bool recursive, int userns_fd, struct error *err);

/* Binds a path over itself, read-only and with more attributes; one that is not there is no error. */
int mounts_make_read_only(int root_fd, const char *path, uint64_t attrs, struct error *err);

/* Covers a path: a file by null_fd (borrowed: /dev/null), a folder by an empty
 * tmpfs; one that is not there is no error. */
int mounts_mask(int root_fd, const char *path, int null_fd, struct error *err);
