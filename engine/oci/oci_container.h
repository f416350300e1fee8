/*
 * oci_container.h - a container of an OCI bundle, as its state directory has it
 *
 *   ROOT/ID/
 *     config.json   the bundle's, as it was at create
 *     state.json    pid, bundle, control group: written once by create or restore
 *     start.sock    while it is created and not yet started: its init listens there
 *   ROOT/.cache/    compiled filters; may be deleted at any time
 *
 * Nobody of ours stays with such a container: the caller (conmon, containerd's
 * shim) adopts the init and reaps it. What it does now is asked of the kernel.
 * It shares nothing with godwit's own containers (container.h) but the code
 * that makes namespaces, mounts, control groups and processes.
 *
 * runtime.md of the runtime specification: state, lifecycle.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/cgroup/cgroup.h"
#include "engine/oci/oci_spec.h"

#define OCI_ID_MAX 255
#define OCI_START_SOCKET "start.sock"
#define OCI_CGROUP_PARENT "/godwit-oci"	/* of containers without a cgroupsPath */

enum oci_status { OCI_CREATING, OCI_CREATED, OCI_RUNNING, OCI_PAUSED, OCI_STOPPED };

struct oci_container {
	char id[OCI_ID_MAX + 1];
	int dir_fd;
	char *dir;			/* absolute path of ROOT/ID */
	char *bundle;			/* absolute */
	char *rootfs;			/* absolute */
	char *slice, *unit;		/* of systemd's; NULL: the control group is a plain path */
	char *cgroup_parent, *cgroup_name;	/* with a unit, known when it has started */
	pid_t placeholder;		/* oci_scope.h */
	char created[40];		/* RFC 3339 */
	pid_t pid;			/* of the init; 0: there never was one */
	uint64_t pid_start;		/* container_pid_start */
	struct oci_spec *spec;
};

/* Makes ROOT/ID with the config.json of a bundle (a path; relative to the working directory).
 * -EEXIST when there is such a container already, -EINVAL names what is wrong. With systemd its
 * control group will be a scope (oci_scope.h). */
int oci_container_create(const char *root, const char *id, const char *bundle, bool systemd,
			 struct oci_container **ret, struct error *err);
/* -ENOENT: there is none. */
int oci_container_open(const char *root, const char *id, struct oci_container **ret, struct error *err);
void oci_container_free(struct oci_container *c);
DEFINE_CLEANUP(struct oci_container *, oci_container_free)

/* The names of all, sorted; free with fd_list_free. A missing ROOT is an empty one. */
int oci_container_list(const char *root, char ***ret, size_t *ret_n, struct error *err);

/* ROOT/.cache, made if it is missing; negative when it can't be. The caller's to close. */
int oci_container_cache(const struct oci_container *c);

/* Writes state.json; the first one with a pid notes the time of creation. */
int oci_container_save(struct oci_container *c, struct error *err);

enum oci_status oci_container_status(const struct oci_container *c);
const char *oci_status_name(enum oci_status s);
/* The document of runtime.md "State", with runc's further fields when more is true; the caller's. */
json_t *oci_container_state(const struct oci_container *c, enum oci_status status, bool more);

/* -ESRCH when its first process is gone. The pidfd is the caller's. */
int oci_container_pidfd(const struct oci_container *c, int *ret, struct error *err);

/* Makes anew or opens the control groups. A scope must not be left (oci_scope_leave) before the
 * container has a process in it. */
int oci_container_cgroup_create(struct oci_container *c, struct cgroup **ret, struct error *err);
int oci_container_cgroup(const struct oci_container *c, struct cgroup **ret, struct error *err);

/* Kills what lives, removes control groups and folder. */
int oci_container_destroy(const struct oci_container *c, struct error *err);

/* Opens what a container's init listens on until it is started; connected. */
int oci_container_connect(const struct oci_container *c, int *ret_sock, struct error *err);
