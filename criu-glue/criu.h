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
 * On failure the error is the decisive line of CRIU's log, or what the caller's
 * own hook said; the log is below images_fd, whose owner keeps it and says where.
 *
 * A dump: freeze in CRIU_PRE_DUMP (wait for "frozen 1"); what the images refer
 * to (the last changes of the file system, /dev/shm) is copied in
 * CRIU_POST_DUMP, not later, since CRIU then still keeps its link_remap.* names
 * of unlinked files. Afterwards, succeeded or failed, the tasks are whole and
 * the cgroup is as frozen as it was. If the caller dies, CRIU notices at its
 * next notification and undoes the same way. Killing CRIU itself may
 * leave its code in the tasks: don't.
 *
 * A restore, by the process that will be the parent of the root task:
 *  - a fresh network namespace with address and routes, its gate closed; an
 *    attempt that failed has left sockets in the one before;
 *  - root: the overlay mounted in the caller's mount namespace, nothing below
 *    it needed; after a killed restore *.ghost names may be left in it;
 *  - the external mounts prepared beside it, e.g. EXT/dev with the nodes and
 *    empty pts, shm and mqueue, EXT/shm with its files. A prepared mount is
 *    bound alone, without what is mounted below it. Mount flags of the
 *    container are set by CRIU;
 *  - hooks.prepare_child joins the container's cgroups, unshares a cgroup
 *    namespace (the tasks inherit both) and mounts the cgroup views;
 *  - in CRIU_PRE_RESUME move CRIU (hooks.started told its pid) out of the
 *    cgroups, then freeze: when criu_restore returns the copy is complete and
 *    frozen. A thaw is the resume.
 * Root and prepared mounts can be detached after that. The tasks die when the
 * caller or CRIU dies before criu_restore is done, or a hook refuses.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/base/cleanup.h"
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

/* A mount that CRIU must not dump or make: at a dump path is its mount point in
 * the container, at a restore what is bound there, in the mount namespace that
 * CRIU is started in. A file over a masked path is one too (path: a bound
 * /dev/null). Native, so not to be listed: /, /proc and binds of its parts,
 * /dev/pts, /dev/mqueue. Everything else is listed, in any order. */
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

struct carried;

/* As CRIU calls it; NULL above the last. */
const char *criu_stage_name(enum criu_stage stage);

/* Runs in the caller's process while CRIU waits. pid is the root task where
 * CRIU tells it, else 0. A negative return makes CRIU give up. */
typedef int (*criu_notify_fn)(void *ctx, enum criu_stage stage, pid_t pid, struct error *err);

struct criu_hooks {
	criu_notify_fn notify;		/* may be NULL */
	void *ctx;
	/* In the child before criu is executed, as root, single-threaded: join
	 * cgroups, enter namespaces. Returns 0 or a negative errno. */
	int (*prepare_child)(void *ctx);
	/* At a restore whose tasks have a terminal (the slave of a pty of their
	 * own /dev/pts) whose master was outside: the new master, which is
	 * consumed. At most one terminal. May be NULL: then such a restore fails. */
	int (*terminal)(void *ctx, int fd_consume, struct error *err);
	/* A restore whose tasks may wait for somebody else (who fills their memory):
	 * when watched_fd (borrowed; 0: none) can be read, once. */
	int watched_fd;
	int (*watched)(void *ctx, struct error *err);
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
	const struct carried *carried;	/* NULL, or memory to leave out: carried.h */
	uint64_t ghost_limit_bytes;	/* largest deleted-but-open file; 0: CRIU's 1 MiB */
	/* Folders of the container, NULL-terminated, may be NULL. An inotify watch
	 * on an overlay tells only an inode: CRIU looks for its path in these, when
	 * there is such a watch. */
	const char *const *watched_paths;
	bool tcp_skip_in_flight;	/* drop connections that nobody has accepted yet */
	/* The network goes on while nothing of the tasks does. CRIU drops what comes for their
	 * connections, and with kill it goes on doing so, and the tasks end without a word to their
	 * peers, until a restore with lock_network in the same namespace. */
	bool lock_network, kill;
	bool ext_unix_sk;		/* let a socket's peer be outside */
	bool refuse_tcp, refuse_file_locks, shell_job;	/* as CRIU's options, the first two turned round */
	const char *const *external;	/* further CRIU keys, e.g. "tty[rdev:dev]" */
	size_t n_external;
};

/* What CRIU is started with, before there is anything to restore. */
struct criu_restorer_plan {
	/* NULL, or the v2 directory that the root task is cloned into, so that CRIU
	 * itself need not be in it (and need not leave it to let it be frozen). */
	const char *cgroup;
	/* An absolute path to a folder that is removed when the restore fails: whatever is killed,
	 * CRIU's place for mounts goes with it. */
	const char *folder;
	const int *files;		/* borrowed, until the restore; -EBADF: none */
	size_t n_files;
	int netns_fd;			/* borrowed, until the restore; -EBADF: CRIU makes it */
	int userns_fd;			/* the same; -EBADF: there is none. The network namespace is its */
	bool lazy;			/* somebody serves lazy-pages.socket: lazy.h */
	int prepared_fd;		/* borrowed; -EBADF, or the list in prepared.h, filled until the restore */
};

struct criu_restore_plan {
	int images_fd;			/* borrowed */
	const char *root;		/* a mount point: the prepared root */
	const char *netns_key;
	const struct criu_mount *mounts;	/* path = where it is outside */
	size_t n_mounts;
	const struct criu_inherit *files;	/* each among those of the start */
	size_t n_files;
	bool ext_unix_sk, refuse_tcp, refuse_file_locks, shell_job, lock_network;	/* as at the dump */
};

/* Both always: tcp_established, file_locks unless refused, evasive devices
 * off, network lock SKIP unless asked for, cgroups left alone (manage_cgroups ignore),
 * orphan pts masters, log level 4 into LOG below images_fd. */
#define CRIU_DUMP_LOG "dump.log"
#define CRIU_RESTORE_LOG "restore.log"

int criu_dump(const struct criu *criu, const struct criu_dump_plan *plan,
	      const struct criu_hooks *hooks, struct error *err);

struct criu_restorer;

/* Starts CRIU and lets it find out what this kernel can do: 10 ms, or 50 the first
 * time after a boot, which are over when the restore begins. hooks.prepare_child
 * and hooks.started run here. It waits, and dies with this process. */
int criu_restorer_start(const struct criu *criu, const struct criu_restorer_plan *plan,
			const struct criu_hooks *hooks, struct criu_restorer **ret, struct error *err);
void criu_restorer_free(struct criu_restorer *r);
DEFINE_CLEANUP(struct criu_restorer *, criu_restorer_free)

/* Once. The restored root task becomes a child of the caller (rst_sibling), who
 * reaps it. */
int criu_restore(struct criu_restorer *r, const struct criu_restore_plan *plan,
		 const struct criu_hooks *hooks, pid_t *ret_pid, struct error *err);
