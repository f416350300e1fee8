/*
 * cgroup_layout.h - where the hierarchies are: for the cgroup*.c files only
 *
 * A container has one directory a hierarchy, all with the same relative path.
 * CGROUP_V2 is always there; the others are v1 controllers and stay -EBADF on
 * a pure v2 host and where the host lacks the controller.
 */
#pragma once

#include "engine/cgroup/cgroup.h"

enum cgroup_hierarchy {
	CGROUP_V2,
	CGROUP_MEMORY,
	CGROUP_CPU,
	CGROUP_CPUACCT,
	CGROUP_PIDS,
	CGROUP_BLKIO,
	CGROUP_BASIC_MAX_, /* what every container has; the rest when it is asked for */
	CGROUP_CPUSET = CGROUP_BASIC_MAX_,
	CGROUP_HUGETLB,
	CGROUP_NET_CLS,
	CGROUP_NET_PRIO,
	CGROUP_RDMA,
	CGROUP_HIERARCHY_MAX_
};

struct cgroup {
	bool pure_v2;
	char *parent; /* "/godwit" */
	char *name;   /* "web" */
	char *path;   /* "/sys/fs/cgroup/godwit/web" */
	int parent_fd[CGROUP_HIERARCHY_MAX_];
	int fd[CGROUP_HIERARCHY_MAX_];
};

/* The directory whose files are those of a v1 controller, or of the same
 * controller in v2 on a pure v2 host; -EBADF when this host has neither. */
int cgroup_controller_fd(const struct cgroup *cg, enum cgroup_hierarchy v1);

/* Checks that a parent is absolute, clean and below the root, and a name one
 * component that is not reserved (a leading dot). */
int cgroup_layout_check(const char *parent, const char *name, struct error *err);

/* Opens the root of a hierarchy; *ret_fd is -EBADF and the result 0 when the
 * host lacks it. */
int cgroup_layout_root(bool pure_v2, enum cgroup_hierarchy h, int *ret_fd, struct error *err);

/* Where the v2 hierarchy is mounted. */
const char *cgroup_layout_v2_path(bool pure_v2);

/* Opens path ("/a/b") below root_fd, making what is missing when create is
 * true. Never leaves the hierarchy. */
int cgroup_layout_open(int root_fd, const char *path, bool create, int *ret_fd, struct error *err);

/* A v1 cpuset that was just made is empty, and nothing can live in it: fills path's
 * and those above from their parents. */
int cgroup_layout_fill_cpuset(int root_fd, const char *path, struct error *err);

/* Pure v2: passes cpu, memory, pids and io (with all: every controller that there is) down from the root
 * to path, as far as the kernel lets us; what is missing shows when a limit is set. */
int cgroup_layout_delegate(int root_fd, const char *path, bool all, struct error *err);

/* rmdir of a cgroup and of the cgroups inside; -EBUSY when processes live
 * there, 0 when it is gone already. */
int cgroup_layout_remove(int parent_fd, const char *name, struct error *err);

/* Calls fn for dirfd's own cgroup and for every one inside, until it fails. */
typedef int (*cgroup_visit_fn)(int dirfd, void *ctx, struct error *err);
int cgroup_layout_walk(int dirfd, cgroup_visit_fn fn, void *ctx, struct error *err);

/* cgroup_limits.c: like cgroup_set_limits, but a limit of 0 writes nothing, which is
 * enough (and quicker) for directories that were made a moment ago. */
int cgroup_init_limits(const struct cgroup *cg, const struct cgroup_limits *limits,
		       struct error *err);

/* cgroup_limits.c: two numbers of a file; "max" and negative ones read as 0. What is
 * not there, or a dirfd of -EBADF, leaves 0. */
int cgroup_read_values(int dirfd, const char *file, uint64_t ret[2], struct error *err);
