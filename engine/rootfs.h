/*
 * rootfs.h - a container's mounts: overlay, /proc, /dev, /sys, masks, volumes
 *
 * One table says what is mounted where. Each mount is NATIVE (a property of
 * the container's own namespaces: CRIU dumps and makes it) or EXTERNAL (the
 * engine makes it, before a restore as well as before a start; CRIU only binds
 * it). EXTERNAL ones cost nothing while the container is frozen.
 *
 * Every path inside a container is resolved with openat2(2) RESOLVE_IN_ROOT,
 * so an image's symlinks can't lead out; mounts are made with the descriptor
 * interface: fsopen(2), fsmount(2), open_tree(2), move_mount(2).
 *
 * Layout and options: runtime-spec config-linux.md "Default Filesystems",
 * overlayfs.rst of the kernel.
 */
#pragma once

#include <stdbool.h>

#include "engine/base/error.h"
#include "engine/container.h"
#include "engine/mounts.h"

enum rootfs_for {
	ROOTFS_FOR_START,	/* everything; by the init, in its namespaces */
	ROOTFS_FOR_RESTORE,	/* what CRIU sees as external, and /proc below the masks; by a process that is
				   in the container's network namespace and cgroup
				   namespace and in the monitor's mount namespace */
};

/* The tmpfs mounts whose files are the container's: their mount points,
 * NULL-terminated. */
#define ROOTFS_TMPFS_MAX 4
extern const char *const rootfs_tmpfs[ROOTFS_TMPFS_MAX + 1];

/* One of them, mounted nowhere yet, to be filled before the container is there. It
 * takes twice of what it may hold in the end, since what goes may go later than
 * what comes; rootfs_limit_tmpfs (-EBUSY when it holds more) sets that right. */
int rootfs_make_tmpfs(const struct spec *s, const char *path, int *ret_fd, struct error *err);
int rootfs_limit_tmpfs(const struct spec *s, const char *path, int mount_fd, struct error *err);

/* Mounts overlay at containers/NAME/merged, then the table below it. Changes
 * the working directory to the state directory. Call it in a private mount
 * namespace: nothing is undone on failure but by that namespace's end. tmpfs (NULL:
 * none) has a mount, or -EBADF, for each of rootfs_tmpfs; they are borrowed. With a
 * user namespace (userns_fd) the caller has begun to work for it: userns_work_for. */
int rootfs_mount(const struct container *c, enum rootfs_for what, const int tmpfs[ROOTFS_TMPFS_MAX],
		 int userns_fd, struct error *err);

/* First start only: /etc/hosts, /etc/hostname and /etc/resolv.conf, written
 * into the container's own layer, so that they move with it. */
int rootfs_write_etc(const struct container *c, struct error *err);

/* Makes merged the root of the calling process and drops the old one. */
int rootfs_pivot(const struct container *c, struct error *err);

/* The mount points of container process pid that are EXTERNAL, from its
 * mountinfo (proc_pid_mountinfo(5)): NULL-terminated, caller frees each. */
int rootfs_external_mounts(const struct container *c, pid_t pid, char ***ret, struct error *err);

/* Whether a mount point is a volume's, or of a mount in one. */
bool rootfs_is_volume(const struct spec *s, const char *path);

/* Whether a mount point is one of a container's EXTERNAL ones. */
bool rootfs_is_external(const struct spec *s, const char *path);
