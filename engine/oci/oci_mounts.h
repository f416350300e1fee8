/*
 * oci_mounts.h - an OCI container's mounts, devices and paths
 *
 *	parent, in the host's namespaces: oci_mounts_open: the root and every bind's source
 *	as detached copies, with their attributes and id maps
 *	init, in the container's: oci_mounts_make below the root, then oci_mounts_pivot,
 *	then oci_mounts_finish
 *
 * The sources are opened before anything is entered because then no path of
 * the host has to be reachable for the container's root.
 *
 * config.md "Mounts", config-linux.md "Default Filesystems", "Devices",
 * "Rootfs Mount Propagation", "Masked Paths", "Readonly Paths".
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "engine/oci/oci_spec.h"

/* The words of mounts[].options, sorted by what they are for. */
struct oci_mount_options {
	uint64_t set, clear;		/* MOUNT_ATTR_*, of the mount itself */
	uint64_t rec_set, rec_clear;	/* of it and of all below it */
	bool bind, recursive;
	bool id_map, id_map_recursive;
	bool copy_up;			/* tmpcopyup */
	uint64_t propagation;		/* MS_PRIVATE ..., 0: not said */
	bool propagation_recursive;
	char data[4096];		/* for the file system, divided by commas */
};

int oci_mount_options_parse(const struct oci_mount *m, struct oci_mount_options *ret, struct error *err);
/* Every word that means something here, NULL-terminated: for the features document. */
const char *const *oci_mount_option_names(void);

struct oci_mounts {
	const struct oci_spec *spec;
	int root_fd;			/* a detached copy of the root's tree */
	int *sources;			/* for each of spec->mounts: a detached tree, or -EBADF */
	bool cgroup_namespace;		/* the container has one for itself */
	uint64_t root_propagation;	/* MS_* */
};

int oci_mounts_open(const struct oci_spec *spec, const char *rootfs, struct oci_mounts *ret, struct error *err);
void oci_mounts_close(struct oci_mounts *m);

/* In the container's mount namespace. rootfs is the folder that the root is put on. */
int oci_mounts_make(struct oci_mounts *m, const char *rootfs, struct error *err);
int oci_mounts_pivot(const struct oci_mounts *m, struct error *err);
/* In the container: read-only and masked paths, the root's own attributes. */
int oci_mounts_finish(const struct oci_mounts *m, struct error *err);

/* Binds a terminal's slave (borrowed) to /dev/console. */
int oci_mounts_console(int slave_fd, struct error *err);

/* linux.devices and the default ones (oci_devices.c), below root_fd. */
int oci_devices_make(int root_fd, const struct oci_spec *spec, struct error *err);
