/*
 * criu.h - CRIU as a child process: dump and restore over its RPC
 *
 * Each call starts one `criu swrk FD` process that answers one request
 * (https://criu.org/RPC, images: https://criu.org/Images). A small library of
 * ours is preloaded into it (shim/shim.c): it answers prlimit64 reads from
 * /proc/PID/limits, so that tasks of any user can be dumped without
 * CAP_SYS_RESOURCE, and lets the tasks of a restore die with CRIU.
 *
 * The caller is single-threaded and blocks in criu_dump and criu_restore;
 * meanwhile its callback runs for CRIU's notifications.
 *
 * On failure the error is one phrase that ends in the decisive line of CRIU's
 * log and the path of the log. A failed or interrupted dump leaves the tasks
 * as they were (CRIU always gets leave_running).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/base/error.h"

/* A CRIU binary that works on this kernel. */
struct criu {
	char path[512];
	unsigned version;		/* 40101 for 4.1.1 */
};

/* Takes $GODWIT_CRIU, else the private prefix that tools/setup fills
 * (/usr/local/lib/godwit/criu/usr/sbin/criu), else criu of $PATH. -ENOENT with the remedy when
 * there is none, -EOPNOTSUPP when it is older than 4.1. Starts the binary once
 * (`--version`). */
int criu_find(struct criu *ret, struct error *err);

/* A mount that CRIU must not dump or make: at a dump inside is its mount point
 * in the container; at a restore outside is the path, in the mount namespace
 * that CRIU is started in, that is bound there. */
struct criu_mount {
	const char *key;
	const char *path;
};

/* A descriptor that stands in a restored task for one that came from outside.
 * The key of a pipe's end is "pipe:[INODE]" with the inode that the pipe had at
 * the dump; see criu_restore for what becomes of the pipe. */
struct criu_inherit {
	const char *key;
	int fd;				/* borrowed */
};

enum criu_stage {
	CRIU_PRE_DUMP,			/* probing is over, nothing is seized yet */
	CRIU_POST_DUMP,
	CRIU_PRE_RESTORE,
	CRIU_SETUP_NAMESPACES,
	CRIU_POST_SETUP_NAMESPACES,
	CRIU_POST_RESTORE,		/* all is restored but credentials and TCP repair */
	CRIU_PRE_RESUME,		/* complete, each task stopped by ptrace */
	CRIU_POST_RESUME,
	CRIU_NETWORK_LOCK,		/* everything is seized */
	CRIU_NETWORK_UNLOCK,
};

/* Runs in the caller's process while CRIU waits. pid is the root task where
 * CRIU tells it, else 0. A negative return makes CRIU give up. */
typedef int (*criu_notify_fn)(void *ctx, enum criu_stage stage, pid_t pid, struct error *err);

struct criu_hooks {
	criu_notify_fn notify;		/* may be NULL */
	void *ctx;
	/* In the child before criu is executed, as root, single-threaded: join
	 * cgroups, enter namespaces. Returns 0 or a negative errno. */
	int (*prepare_child)(void *ctx);
	/* After the child is started: its pid, e.g. to hand a pidfd on. */
	int (*started)(void *ctx, pid_t criu_pid, struct error *err);
};

struct criu_dump_plan {
	pid_t pid;			/* root task, as the caller sees it */
	int images_fd;			/* borrowed: a directory */
	const char *freeze_cgroup;	/* v2 directory, frozen by the caller */
	uint64_t netns_inode;		/* 0: CRIU dumps the namespace itself */
	const char *netns_key;
	const struct criu_mount *mounts;	/* path = mount point inside */
	size_t n_mounts;
	uint64_t ghost_limit_bytes;	/* largest deleted-but-open file; 0: CRIU's 1 MiB */
	bool tcp_skip_in_flight;	/* drop connections that nobody has accepted yet */
	bool ext_unix_sk;		/* let a socket's peer be outside */
	const char *const *external;	/* further CRIU keys, e.g. "tty[rdev:dev]" */
	size_t n_external;
};

struct criu_restore_plan {
	int images_fd;			/* borrowed */
	const char *root;		/* a mount point: the prepared root */
	int netns_fd;			/* borrowed; -EBADF: CRIU makes it */
	const char *netns_key;
	const struct criu_mount *mounts;	/* path = where it is outside */
	size_t n_mounts;
	const struct criu_inherit *files;
	size_t n_files;
	bool ext_unix_sk;		/* as at the dump */
};

/* Both always: tcp_established, file_locks, ext_unix_sk off, evasive devices
 * off, network lock SKIP, cgroups left alone (manage_cgroups ignore),
 * orphan pts masters, log level 4 into LOG below images_fd. */
#define CRIU_DUMP_LOG "dump.log"
#define CRIU_RESTORE_LOG "restore.log"

int criu_dump(const struct criu *criu, const struct criu_dump_plan *plan,
	      const struct criu_hooks *hooks, struct error *err);

/* The restored root task becomes a child of the caller (rst_sibling), who
 * reaps it. */
int criu_restore(const struct criu *criu, const struct criu_restore_plan *plan,
		 const struct criu_hooks *hooks, pid_t *ret_pid, struct error *err);
