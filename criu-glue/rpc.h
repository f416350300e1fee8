/*
 * rpc.h - one request to a CRIU worker, and its notifications on the way
 *
 * CRIU sends a notification at each stage and waits for the verdict before it
 * goes on.
 *
 * The only file of the project that knows the messages of rpc.proto.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "criu-glue/worker.h"
#include "engine/base/error.h"

enum rpc_verb { RPC_DUMP, RPC_RESTORE };

struct rpc_inherit {
	const char *key;
	int worker_fd;			/* its number in the worker */
};

struct rpc_request {
	enum rpc_verb verb;
	int images_fd;			/* of this process; working directory too */
	const char *log_file;		/* a name in it */
	uint32_t log_level;
	pid_t pid;			/* dump: root task */
	const char *freeze_cgroup;	/* dump, may be NULL */
	uint32_t ghost_limit_bytes;	/* dump */
	bool tcp_skip_in_flight;	/* dump */
	bool kill;			/* dump: what was dumped ends with it */
	bool lock_network;		/* or nobody can reach it; the same at dump and restore */
	const char *const *watched_paths;	/* dump, NULL-terminated; may be NULL */
	bool ext_unix_sk;
	bool shell_job;
	bool refuse_tcp, refuse_file_locks;	/* a dump with such things fails */
	bool orphan_pts_master;
	const char *root;		/* restore */
	bool lazy_pages;		/* restore */
	const char *const *external;
	size_t n_external;
	const struct rpc_inherit *inherit;
	size_t n_inherit;
	int watched_fd;			/* 0: none; when it can be read watched is called, once */
	int (*watched)(void *ctx, struct error *err);
};

/* stage is CRIU's name of it, pid the root task or 0, fd (consumed) what came
 * with it or -EBADF. A negative return makes CRIU give up where it still can. */
typedef int (*rpc_notify_fn)(void *ctx, const char *stage, pid_t pid, int fd, struct error *err);

struct rpc_result {
	pid_t pid;			/* root task of a restore; 0 when unknown */
	int code;			/* CRIU's errno, or 0 */
	char message[256];		/* CRIU's own, or "" */
};

/* Lets a worker that has just been started find out what the kernel can do, and
 * keep that where the next request finds it. */
int rpc_probe(struct worker *w, struct error *err);

/* Sends the request and serves until the answer. Returns 0, or 1 when CRIU
 * answered that it failed; negative when the conversation broke or notify
 * refused a stage (then err is notify's). *ret is filled as far as known in
 * every case. The worker is not reaped. */
int rpc_call(struct worker *w, const struct rpc_request *request, rpc_notify_fn notify, void *ctx,
	     struct rpc_result *ret, struct error *err);
