/*
 * worker.h - one `criu swrk FD` process: started, given its descriptors, reaped
 *
 * The worker has exactly these descriptors: 0 and 1 are /dev/null, 2 is a file
 * in memory that keeps what it says before its log is open, WORKER_SOCKET is
 * its end of the RPC socket, and from WORKER_FD_BASE on come the descriptors
 * of the plan, in their order. Everything else is closed, so nothing of the
 * caller leaks into CRIU. One that dumps is in a session of its own. It reads no configuration file, has SIGCHLD and
 * SIGPIPE at their defaults and no signal blocked. A library of ours is
 * preloaded into it (shim/shim.c).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "engine/base/error.h"

#define WORKER_SOCKET 3
#define WORKER_FD_BASE 5			/* SHIM_FD is between */
#define WORKER_FDS_MAX 64

struct worker_plan {
	const char *path;			/* the CRIU binary */
	const int *fds;				/* borrowed */
	size_t n_fds;
	/* With the caller's death the worker dies, and with the worker every
	 * task that it traces: right for a restore. Killing a worker that dumps
	 * would leave its code in the tasks, so that one goes on by itself, sees
	 * that nobody answers, and undoes what it did. */
	bool dies_with_caller;
	bool small_pages;			/* see SHIM_SMALL_PAGES */
	bool no_conntrack;			/* see SHIM_NO_CONNTRACK */
	const char *cgroup;			/* NULL; see SHIM_CGROUP */
	const char *yard;			/* NULL; a folder, see SHIM_YARD */
	/* Descriptors of the worker, thus WORKER_FD_BASE and the index in fds; 0: none. */
	int carried;				/* see SHIM_CARRIED */
	int smaps;				/* see SHIM_SMAPS */
	int prepared;				/* see SHIM_PREPARED */
	int userns;				/* see SHIM_USERNS; with cgroup */
	int (*prepare)(void *ctx);		/* may be NULL; in the child, before exec */
	void *ctx;
};

/* -EBADF and 0 stand for what is not there. */
struct worker {
	pid_t pid;
	int pidfd;
	int socket;				/* SOCK_SEQPACKET */
	int output;				/* its stderr */
};
#define WORKER_EMPTY { .pidfd = -EBADF, .socket = -EBADF, .output = -EBADF }

/* Returns when CRIU is executed; errors of prepare and of execve(2) are
 * reported here. The caller is single-threaded. */
int worker_start(const struct worker_plan *plan, struct worker *ret, struct error *err);

/* Waits for the worker's end, which must be near (socket closed, or killed).
 * Its wait status goes to ret_status (may be NULL). */
int worker_reap(struct worker *w, int *ret_status, struct error *err);

/* Copies the last line of what it wrote to stderr, "" when there is none. */
void worker_last_words(const struct worker *w, char *ret, size_t size);

/* Kills it when it still lives, reaps it, closes everything. */
void worker_stop(struct worker *w);
