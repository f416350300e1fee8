/*
 * oci_namespaces.h - which namespaces an OCI container has, and how to get into them
 *
 * The one who enters is a go-between process: it joins what is given by path,
 * makes the rest new, and then forks the container's init as its parent's
 * child, because only a child gets into a pid or time namespace. Its parent
 * has to write what only it may: the maps of a new user namespace and the
 * offsets of a new time namespace, each while the go-between waits.
 *
 * namespaces(7), user_namespaces(7), time_namespaces(7), config-linux.md "Namespaces".
 */
#pragma once

#include "engine/oci/oci_spec.h"
#include "engine/userns.h"

#define OCI_NAMESPACES_MAX 8

struct oci_namespaces {
	unsigned create;		/* CLONE_NEW* to be made */
	unsigned join;			/* CLONE_NEW* to be joined, by fds in the order of the table */
	int fds[OCI_NAMESPACES_MAX];	/* -EBADF: not joined */
	const struct oci_linux *spec;	/* maps and offsets */
};

/* Opens the paths. -EINVAL or -ENOTSUP names what can't be. Also checks what depends on the
 * list: maps, offsets, host name, sysctls. */
int oci_namespaces_open(const struct oci_spec *spec, struct oci_namespaces *ret, struct error *err);
void oci_namespaces_close(struct oci_namespaces *n);

/* All of a running process that are not ours: for exec. init_fd (borrowed) is its pidfd. */
int oci_namespaces_join_process(int init_fd, pid_t pid, struct error *err);

/* In the go-between; sock leads to its parent, who is in oci_namespaces_help. */
int oci_namespaces_enter(const struct oci_namespaces *n, int sock, struct error *err);

/* What the go-between asks its parent to do, one byte each. */
enum { OCI_ASK_MAPS = 'u', OCI_ASK_TIME = 't' };
int oci_namespaces_help(const struct oci_namespaces *n, char ask, pid_t between, struct error *err);

/* Lists of struct oci_id_mapping. -EINVAL names the range that is none. */
int oci_namespaces_maps(const struct oci_list *uids, const struct oci_list *gids, struct userns *ret,
			struct error *err);

/* The name in /proc/PID/ns of a flag, NULL for none; for lists of them. */
const char *oci_namespace_name(size_t i, unsigned *ret_flag, const char **ret_proc);
