/*
 * restore_mounts.h - mounts where CRIU finds them, and nobody else puts anything
 *
 * CRIU takes external mounts by their paths on this machine. Two kinds of containers need
 * other paths than those below containers/NAME/merged, so their mounts are bound once
 * more, from descriptors, into a tmpfs that only the caller's mount namespace has.
 *
 * - One with volumes: a volume's mount point may lie in another volume, and who else has
 *   that one can make a link of a folder on the way while CRIU follows it, to anywhere on
 *   the machine (the class of CVE-2021-30465). The tmpfs covers the folder "work", whose
 *   paths nobody uses while the overlay is mounted.
 * - One with ids of its own: CRIU's tasks are root of its user namespace from their first
 *   moment, who on this machine may not search the state directory. The tmpfs covers /tmp,
 *   and has each mount by itself: what lies below one can't be left out in a user namespace
 *   (mount_namespaces(7), locked mounts). It has a /proc, too: CRIU may mount one in there
 *   only where all of another can be seen, and in the machine's own something may be covered.
 */
#pragma once

#include "engine/container.h"

#define RESTORE_MOUNTS_ROOT (NODE_TEXT_MAX + SPEC_NAME_MAX + 48)

struct restore_mounts {
	const struct container *container;	/* borrowed */
	bool placed;				/* there is something to let go of */
};

/* After rootfs_mount, in its mount namespace. points are the container's external mount points. */
int restore_mounts_place(struct restore_mounts *m, char *const *points, struct error *err);

/* Where points[i] is for CRIU, and its root (buf: of RESTORE_MOUNTS_ROOT bytes). */
void restore_mounts_path(const struct container *c, char *const *points, size_t i, char *buf, size_t size);
void restore_mounts_root(const struct container *c, char *buf);

/* Lets go of what these have mounted. */
void restore_mounts_drop(struct restore_mounts *m);
