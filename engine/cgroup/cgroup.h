/*
 * cgroup.h - the control groups of one container: limits, freezing, killing
 *
 * Two layouts are supported, and probed, not configured:
 *   pure v2:  /sys/fs/cgroup is cgroup2; everything happens there;
 *   hybrid:   controllers are v1 hierarchies under /sys/fs/cgroup/NAME and an
 *             empty cgroup2 is at /sys/fs/cgroup/unified. Limits go to the v1
 *             controllers; freezing, killing, populated events and device
 *             rules use the v2 directory, which needs no controller for that.
 * In both a container has the same relative path, PARENT/NAME, in the v2
 * hierarchy and in every v1 hierarchy that is used (memory, cpu, cpuacct,
 * pids, blkio). Only directories below PARENT are ever frozen, killed or removed.
 *
 * Sources: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/ of the
 * kernel, cgroups(7).
 *
 *   CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
 *   r = cgroup_create("/godwit", "web", &limits, &cg, err);
 *   r = cgroup_join(cg, 0, err);
 *   ...
 *   r = cgroup_kill(cg, 5000000, err);
 *   r = cgroup_remove(cg, err);
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"
#include "engine/disk_limits.h"

struct cgroup;

/* 0 means no limit, in each field. */
struct cgroup_limits {
	uint64_t memory_bytes;
	uint32_t cpu_millis;	/* 1500 = one and a half processors */
	uint32_t pids;
	struct disk_limits disks;
};

/* What the kernel counts now; a controller that is absent leaves 0. */
struct cgroup_usage {
	uint64_t memory_bytes;
	uint64_t working_bytes;		/* less the file cache that can be dropped at once */
	uint64_t peak_bytes;		/* the most that memory_bytes ever was */
	uint64_t oom_kills;		/* processes that were killed because memory_bytes may not grow */
	uint64_t cpu_us;
	uint64_t throttled_us;		/* how long processors were withheld by the limit */
	uint64_t pids;
	uint64_t read_bytes, written_bytes;	/* to and from disks, all of them together */
};

/* Makes (or, when they are empty, makes anew) the directories and sets the
 * limits. parent is absolute, below each hierarchy's root as seen by this
 * process, never "/", and no component of it begins with a dot; name has no
 * slash and no leading dot either. -EOPNOTSUPP when a limit is asked for whose
 * controller is missing; -EBUSY when live processes are in it already. */
int cgroup_create(const char *parent, const char *name, const struct cgroup_limits *limits,
		  struct cgroup **ret, struct error *err);

/* Opens what exists; -ENOENT when it does not. */
int cgroup_open(const char *parent, const char *name, struct cgroup **ret, struct error *err);

/* The same in every hierarchy that the host has (also cpuset, blkio, hugetlb, net_cls,
 * net_prio, rdma), without limits, and for containers whose control group another program
 * chose: parent may be "", for a name right below the root. cgroup_open finds these too. */
int cgroup_create_full(const char *parent, const char *name, struct cgroup **ret, struct error *err);
int cgroup_open_full(const char *parent, const char *name, struct cgroup **ret, struct error *err);
/* As cgroup_create_full, but what is there stays as it is, with the processes in it: for a directory
 * that a manager such as systemd made. */
int cgroup_adopt_full(const char *parent, const char *name, struct cgroup **ret, struct error *err);

/* Where a process is in the v2 hierarchy, in the form that these take; the caller's to free.
 * -EINVAL when it is at the root. */
int cgroup_of_process(pid_t pid, char **ret_parent, char **ret_name, struct error *err);

void cgroup_free(struct cgroup *cg);
DEFINE_CLEANUP(struct cgroup *, cgroup_free)

/* Directory of the v2 hierarchy: the fd (borrowed; for CLONE_INTO_CGROUP and
 * BPF) and its absolute path (borrowed; what CRIU wants as freeze_cgroup). */
int cgroup_fd(const struct cgroup *cg);
const char *cgroup_path(const struct cgroup *cg);

/* Moves a process (0: the caller) in, in every hierarchy. Costs microseconds
 * for a caller with one thread that was cloned into cgroup_fd; a move between
 * v2 directories, or of another process, may wait 16 ms for the kernel. */
int cgroup_join(const struct cgroup *cg, pid_t pid, struct error *err);

/* "init" in the v2 directory, made when missing: what a container's own processes are in when it has
 * control groups of its own inside, because a v2 directory that passes controllers down holds
 * no processes. For CLONE_INTO_CGROUP. */
int cgroup_open_leaf(const struct cgroup *cg, int *ret_fd, struct error *err);
/* Moves the caller there, within the v2 hierarchy. */
int cgroup_enter_leaf(const struct cgroup *cg, struct error *err);

/* The v1 hierarchies only, and only the calling, single-threaded process: quick.
 * For a helper whose children are cloned into the v2 directory. */
int cgroup_join_v1(const struct cgroup *cg, struct error *err);

/* A new cgroup namespace (cgroup_namespaces(7)) that shows the container's
 * directories as the roots of all hierarchies; for setns(2). It belongs to a user
 * namespace (borrowed), or to the caller's: -EBADF. */
int cgroup_namespace_create(const struct cgroup *cg, int userns_fd, int *ret_fd, struct error *err);

/* Whether a process is in the v2 directory itself. */
bool cgroup_contains(const struct cgroup *cg, pid_t pid);

/* Writes cgroup.freeze and waits for "frozen 1" in cgroup.events by poll(2),
 * at most timeout_us; on -ETIMEDOUT the cgroup is thawed again. */
int cgroup_freeze(const struct cgroup *cg, uint64_t timeout_us, struct error *err);

/* The same, for CRIU: no thread stands between a fault and the signal for it (SIGSEGV,
 * SIGTRAP and the like). The kernel would deliver that before the breakpoint of the code
 * which CRIU runs in the thread, so the dump would fail, and the breakpoint's SIGTRAP
 * would stay for the program. Such threads are let run for moments, at most
 * timeout_us. -EBUSY when there are still some, thawed; and when the cgroup was frozen
 * before the call, as nobody is let run then, still frozen. */
int cgroup_freeze_to_dump(const struct cgroup *cg, uint64_t timeout_us, struct error *err);
int cgroup_thaw(const struct cgroup *cg, struct error *err);
int cgroup_is_frozen(const struct cgroup *cg, bool *ret, struct error *err);
int cgroup_is_populated(const struct cgroup *cg, bool *ret, struct error *err);

/* SIGKILL to everything inside, in every hierarchy (cgroup.kill, also when
 * frozen), then waits until it has ended, at most timeout_us for each step. What is gone already is no error. */
int cgroup_kill(const struct cgroup *cg, uint64_t timeout_us, struct error *err);

/* Removes the directories, and sub-directories that containers made; -EBUSY
 * when something still lives inside. What is gone already is no error. */
int cgroup_remove(const struct cgroup *cg, struct error *err);

/* The same where a manager has removed the v2 directory by itself. */
int cgroup_remove_rest(const char *parent, const char *name, struct error *err);

int cgroup_set_limits(const struct cgroup *cg, const struct cgroup_limits *limits,
		      struct error *err);

/* Only that of processes; 0: none. */
int cgroup_limit_pids(const struct cgroup *cg, uint64_t pids, struct error *err);

/* One file of one controller ("memory", "cpu", "cpuset", "pids", "io" (v1: blkio), "hugetlb",
 * "net_cls", "net_prio", "rdma", or "" for the v2 directory itself). other is a second name to
 * try, or NULL, with another value unless that is "". -EOPNOTSUPP when the host has no such
 * controller, or not that file. */
struct cgroup_setting {
	const char *controller;
	const char *other;
	char file[64];
	char value[128];
	char other_value[24];
};
int cgroup_write_setting(const struct cgroup *cg, const struct cgroup_setting *s, struct error *err);
/* The text of such a file, the caller's to free. */
int cgroup_read_setting(const struct cgroup *cg, const char *controller, const char *file, char **ret,
			struct error *err);

/* Tells each limit (disks count as one) that this host can't set, with the reason: tried in a control
 * group of that name, which must be free and is made and removed here. */
int cgroup_try_limits(const char *parent, const char *name, const struct cgroup_limits *limits,
		      void (*refused)(void *ctx, const char *why), void *ctx, struct error *err);

/* Whether this host has the pids controller: for a default, which must not
 * make a start fail where nobody asked for it. */
int cgroup_can_limit_pids(bool *ret, struct error *err);

/* Reads back what is in force, except for disks. */
int cgroup_get_limits(const struct cgroup *cg, struct cgroup_limits *ret, struct error *err);
int cgroup_get_usage(const struct cgroup *cg, struct cgroup_usage *ret, struct error *err);

/* All pids inside, sub-directories included; the caller frees. */
int cgroup_pids(const struct cgroup *cg, pid_t **ret, size_t *ret_n, struct error *err);

/* True on a host whose /sys/fs/cgroup is cgroup2 itself. */
int cgroup_is_pure_v2(bool *ret, struct error *err);

/* Mounts what a container sees below target (its /sys/fs/cgroup), nosuid, nodev, noexec and,
 * unless writable, read-only: cgroup2 on pure v2; on hybrid a tmpfs with each v1
 * hierarchy and unified as the host has them. Called by a process that is in
 * the container's cgroups and in its cgroup namespace, so that the mounts show
 * the container's own subtree as their root. */
int cgroup_mount_view(const char *target, bool writable, struct error *err);
