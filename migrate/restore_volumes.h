/*
 * restore_volumes.h - volumes where CRIU finds them, and nobody else puts anything
 *
 * CRIU takes external mounts by their paths on this machine. A volume's mount point may
 * lie in another volume, and who else has that one can make a link of a folder on the way
 * while CRIU follows it, to anywhere on the machine (the class of CVE-2021-30465). So
 * volumes are bound once more, from descriptors, into a tmpfs that only the caller's
 * mount namespace has.
 */
#pragma once

#include "engine/container.h"

/* After rootfs_mount, in its mount namespace. points are the container's external mount points. The
 * tmpfs covers the folder "work", whose paths nobody uses while the overlay is mounted. */
int restore_volumes_place(const struct container *c, char *const *points, struct error *err);

/* Where points[i] is for CRIU. */
void restore_volumes_path(const struct container *c, char *const *points, size_t i, char *buf, size_t size);

/* Lets go of the tmpfs, as far as there is one. */
void restore_volumes_drop(const struct container *c);
