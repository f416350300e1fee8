/*
 * oci_checkpoint.h - OCI containers into images of CRIU and back, as runc does
 *
 * The images are plain ones of CRIU, and two files of ours beside them:
 * descriptors.json (as runc's: where stdio led) and mounts.json (the mount
 * points that CRIU left to us: binds, covered paths and views of control groups).
 *
 * A network namespace that was joined by path is not dumped: it is the caller's, who has one for
 * the restore, too. Connections there (tcp_established) are closed for packets until then, each by a rule of
 * nftables.
 */
#pragma once

#include "engine/oci/oci_launch.h"

struct oci_checkpoint_options {
	const char *image_path;
	bool leave_running, tcp_established, ext_unix_sk, shell_job, file_locks;
};

/* Freezes the container and dumps it; then it is killed, or goes on with leave_running or when
 * the dump failed. */
int oci_checkpoint(const struct oci_container *c, const struct oci_checkpoint_options *o, struct error *err);

/* c is new (oci_container_create). The root task is a child of the caller, who may leave; it runs.
 * On failure the container is gone. The caller's mount namespace is another one afterwards. */
int oci_restore(struct oci_container *c, const struct oci_checkpoint_options *o,
		const struct oci_launch_options *launch, struct error *err);

/* --- between the files --- */
#define OCI_MOUNTS_FILE "mounts.json"
#define OCI_DESCRIPTORS_FILE "descriptors.json"
#define OCI_NETWORK_KEY "extRootNetNS"	/* runc's name in the images for a network that was joined */

/* NULL: it has a network namespace of its own, or the host's. */
const char *oci_joined_network(const struct oci_spec *s);
