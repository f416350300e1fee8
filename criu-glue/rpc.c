#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "criu-glue/rpc.h"
#include "criu-glue/rpc.pb-c.h"
#include "engine/base/cleanup.h"
#include "engine/base/fd.h"

#define RPC_MESSAGE_MAX 65536

/* After post-restore only a few steps are left, each of milliseconds. A CRIU
 * that fails in one of them may wait for ever for a task that it traces. */
#define LATE_SILENCE_MS 30000

typedef Godwit__Criu__Options Options;
typedef Godwit__Criu__Request Request;
typedef Godwit__Criu__Response Response;
typedef Godwit__Criu__InheritedFd InheritedFd;

static void response_freep(Response **r)
{
	if (*r)
		godwit__criu__response__free_unpacked(*r, NULL);
}

/* protobuf-c wants mutable strings and does not change them. */
static char *borrow(const char *s)
{
	return (char *)(uintptr_t)s;
}

#define SET(message, field, value) ((message)->has_##field = 1, (message)->field = (value))

static void fill_options(Options *o, const struct rpc_request *q)
{
	o->images_dir_fd = q->images_fd;
	SET(o, work_dir_fd, q->images_fd);
	o->log_file = borrow(q->log_file);
	SET(o, log_level, (int32_t)q->log_level);
	SET(o, notify_scripts, true);
	SET(o, tcp_established, !q->refuse_tcp);
	SET(o, tcp_skip_in_flight, q->tcp_skip_in_flight);
	SET(o, file_locks, !q->refuse_file_locks);
	SET(o, link_remap, true);
	SET(o, ext_unix_sk, q->ext_unix_sk);
	SET(o, shell_job, q->shell_job);
	SET(o, orphan_pts_master, q->orphan_pts_master);
	SET(o, network_lock, q->lock_network ? GODWIT__CRIU__NETWORK_LOCK__NETWORK_LOCK_NFTABLES :
					       GODWIT__CRIU__NETWORK_LOCK__NETWORK_LOCK_SKIP);
	SET(o, manage_cgroups_mode, GODWIT__CRIU__CGROUP_MODE__CGROUP_MODE_IGNORE);
	if (q->verb == RPC_DUMP) {
		SET(o, pid, q->pid);
		SET(o, leave_running, !q->kill);
		o->freeze_cgroup = borrow(q->freeze_cgroup);
		if (q->ghost_limit_bytes)
			SET(o, ghost_limit, q->ghost_limit_bytes);
		o->irmap_scan_paths = (char **)(uintptr_t)q->watched_paths;
		while (q->watched_paths && q->watched_paths[o->n_irmap_scan_paths])
			o->n_irmap_scan_paths++;
	} else {
		SET(o, rst_sibling, true);
		SET(o, lazy_pages, q->lazy_pages);
		o->root = borrow(q->root);
	}
}

static int send_message(int socket, const Request *message, struct error *err)
{
	size_t size = godwit__criu__request__get_packed_size(message);
	CLEANUP(freep) uint8_t *data = malloc(size);

	if (!data)
		return error_set(err, ENOMEM, "out of memory");
	(void)godwit__criu__request__pack(message, data);
	return fd_send_msg(socket, data, size, NULL, 0, err);
}

static int send_request(int socket, const struct rpc_request *q, struct error *err)
{
	CLEANUP(freep) char **external = calloc(q->n_external + 1, sizeof(*external));
	InheritedFd files[WORKER_FDS_MAX], *list[WORKER_FDS_MAX];
	Options options = GODWIT__CRIU__OPTIONS__INIT;
	Request message = GODWIT__CRIU__REQUEST__INIT;

	if (q->n_inherit > WORKER_FDS_MAX)
		return error_set(err, E2BIG, "more than %d descriptors for CRIU", WORKER_FDS_MAX);
	if (!external)
		return error_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < q->n_external; i++)
		external[i] = borrow(q->external[i]);
	for (size_t i = 0; i < q->n_inherit; i++) {
		godwit__criu__inherited_fd__init(&files[i]);
		files[i].key = borrow(q->inherit[i].key);
		files[i].fd = q->inherit[i].worker_fd;
		list[i] = &files[i];
	}
	fill_options(&options, q);
	options.n_external = q->n_external;
	options.external = external;
	options.n_inherit_fd = q->n_inherit;
	options.inherit_fd = list;
	message.type = q->verb == RPC_DUMP ? GODWIT__CRIU__REQUEST_TYPE__REQUEST_DUMP :
					     GODWIT__CRIU__REQUEST_TYPE__REQUEST_RESTORE;
	message.opts = &options;
	return send_message(socket, &message, err);
}

static int send_verdict(int socket, bool success, struct error *err)
{
	Request message = GODWIT__CRIU__REQUEST__INIT;

	message.type = GODWIT__CRIU__REQUEST_TYPE__REQUEST_NOTIFY;
	SET(&message, notify_success, success);
	return send_message(socket, &message, err);
}

/* Somebody else whom CRIU may wait for. */
struct watch {
	int fd;				/* -EBADF: nobody */
	int (*fn)(void *ctx, struct error *err);
	void *ctx;
};

/* What CRIU forked holds its end of the socket too, so that CRIU's death alone
 * doesn't end it. */
static int wait_for_criu(const struct worker *w, int wait_ms, struct watch *watch, struct error *err)
{
	struct pollfd p[] = { { .fd = w->socket, .events = POLLIN }, { .fd = w->pidfd, .events = POLLIN },
			      { .fd = watch->fd, .events = POLLIN } };
	int ready;

	do {
		ready = poll(p, 3, wait_ms);
		if (ready > 0 && p[2].revents && !p[0].revents && !p[1].revents) {
			watch->fd = p[2].fd = -EBADF;
			if (watch->fn(watch->ctx, err) < 0)
				return -err->code;
			ready = -1;
			errno = EINTR;
		}
	} while (ready < 0 && errno == EINTR);
	if (ready < 0)
		return error_set(err, errno, "poll: %s", strerror(errno));
	if (ready == 0)
		return error_set(err, ETIMEDOUT, "CRIU is stuck");
	if (!p[0].revents && poll(p, 1, 0) == 0)	/* it may have spoken before it ended */
		return error_set(err, ECONNRESET, "CRIU ended without an answer");
	return 0;
}

static int receive(const struct worker *w, int wait_ms, struct watch *watch, Response **ret, int *ret_fd,
		   struct error *err)
{
	CLEANUP(freep) uint8_t *data = malloc(RPC_MESSAGE_MAX);
	CLEANUP(fd_closep) int fd = -EBADF;
	ssize_t n;

	if (!data)
		return error_set(err, ENOMEM, "out of memory");
	if (wait_for_criu(w, wait_ms, watch, err) < 0)
		return -err->code;
	n = fd_recv_msg(w->socket, data, RPC_MESSAGE_MAX, &fd, 1, err);
	if (n < 0)
		return (int)n;
	if (n == 0)
		return error_set(err, ECONNRESET, "CRIU ended without an answer");
	*ret = godwit__criu__response__unpack(NULL, (size_t)n, data);
	if (!*ret)
		return error_set(err, EPROTO, "CRIU's message can't be read");
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static void note_result(const Response *response, struct rpc_result *ret)
{
	if (response->restore && response->restore->pid > 0)
		ret->pid = response->restore->pid;
	ret->code = response->has_cr_errno ? response->cr_errno : 0;
	if (response->cr_errmsg)
		(void)snprintf(ret->message, sizeof(ret->message), "%s", response->cr_errmsg);
}

/* One notification: our verdict goes back even when notify has failed, since
 * CRIU has to undo what it did. */
static int serve_notice(struct worker *w, const Response *response, int fd_consume,
			rpc_notify_fn notify, void *ctx, struct rpc_result *ret,
			struct error *err)
{
	const char *stage = response->notify && response->notify->script ?
			    response->notify->script : "";
	pid_t pid = response->notify && response->notify->has_pid ? response->notify->pid : 0;
	struct error ignored;
	int r;

	if (pid > 0)
		ret->pid = pid;
	r = notify(ctx, stage, pid, fd_consume, err);
	if (r < 0) {
		(void)send_verdict(w->socket, false, &ignored);
		return r;
	}
	return send_verdict(w->socket, true, err);
}

int rpc_probe(struct worker *w, struct error *err)
{
	CLEANUP(response_freep) Response *response = NULL;
	CLEANUP(fd_closep) int fd = -EBADF;
	Godwit__Criu__Features none = GODWIT__CRIU__FEATURES__INIT;
	struct watch nobody = { .fd = -EBADF };
	Request message = GODWIT__CRIU__REQUEST__INIT;

	message.type = GODWIT__CRIU__REQUEST_TYPE__REQUEST_FEATURES;
	message.features = &none;
	SET(&message, keep_open, true);
	if (send_message(w->socket, &message, err) < 0 || receive(w, -1, &nobody, &response, &fd, err) < 0)
		return -err->code;
	if (response->type != GODWIT__CRIU__REQUEST_TYPE__REQUEST_FEATURES || !response->success)
		return error_set(err, EOPNOTSUPP, "CRIU can't find out what this kernel can do; try 'criu check'");
	return 0;
}

int rpc_call(struct worker *w, const struct rpc_request *request, rpc_notify_fn notify, void *ctx,
	     struct rpc_result *ret, struct error *err)
{
	struct error first = { 0 };
	struct watch watch = { .fd = request->watched_fd > 0 ? request->watched_fd : -EBADF,
			       .fn = request->watched, .ctx = ctx };
	int wait_ms = -1;

	*ret = (struct rpc_result){ 0 };
	if (send_request(w->socket, request, err) < 0)
		return error_wrap(err, "ask CRIU");
	for (;;) {
		CLEANUP(response_freep) Response *response = NULL;
		CLEANUP(fd_closep) int fd = -EBADF;

		if (receive(w, wait_ms, &watch, &response, &fd, err) < 0)
			break;
		if (response->type == GODWIT__CRIU__REQUEST_TYPE__REQUEST_NOTIFY) {
			if (response->notify && response->notify->script &&
			    !strcmp(response->notify->script, "post-restore"))
				wait_ms = LATE_SILENCE_MS;
			if (serve_notice(w, response, TAKE_FD(fd), notify, ctx, ret, err) < 0 &&
			    !first.code)
				first = *err;
			continue;
		}
		note_result(response, ret);
		if (first.code)
			break;
		return response->success ? 0 : 1;
	}
	if (first.code)
		*err = first;
	return -err->code;
}
