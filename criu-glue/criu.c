#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "criu-glue/carried.h"
#include "criu-glue/criu.h"
#include "criu-glue/log.h"
#include "criu-glue/rpc.h"
#include "criu-glue/smaps_learn.h"
#include "criu-glue/timers.h"
#include "engine/base/cleanup.h"
#include "engine/base/fault.h"
#include "engine/base/fd.h"

#define LOG_LEVEL 4

/* NULL-tolerant owner of the strings that a request borrows. */
struct keys {
	char **list;
	size_t n;
};

static void keys_freep(struct keys *k)
{
	for (size_t i = 0; i < k->n; i++)
		free(k->list[i]);
	free(k->list);
}

static int keys_add(struct keys *k, struct error *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int keys_add(struct keys *k, struct error *err, const char *fmt, ...)
{
	char **more = realloc(k->list, (k->n + 1) * sizeof(*more));
	va_list ap;
	int n;

	if (!more)
		return error_set(err, ENOMEM, "out of memory");
	k->list = more;
	va_start(ap, fmt);
	n = vasprintf(&k->list[k->n], fmt, ap);
	va_end(ap);
	if (n < 0)
		return error_set(err, ENOMEM, "out of memory");
	k->n++;
	return 0;
}

/* One running conversation: what a notification needs. */
struct session {
	const struct criu_hooks *hooks;
	pid_t worker;
	pid_t root;			/* of a restore, when CRIU has told it */
	bool refused;			/* by a hook, whose error is the reason */
};

static const struct {
	const char *name;
	enum criu_stage stage;
} stages[] = {
	{ "pre-dump", CRIU_PRE_DUMP },
	{ "post-dump", CRIU_POST_DUMP },
	{ "pre-restore", CRIU_PRE_RESTORE },
	{ "setup-namespaces", CRIU_SETUP_NAMESPACES },
	{ "post-setup-namespaces", CRIU_POST_SETUP_NAMESPACES },
	{ "post-restore", CRIU_POST_RESTORE },
	{ "pre-resume", CRIU_PRE_RESUME },
	{ "post-resume", CRIU_POST_RESUME },
	{ "network-lock", CRIU_NETWORK_LOCK },
	{ "network-unlock", CRIU_NETWORK_UNLOCK },
};

const char *criu_stage_name(enum criu_stage stage)
{
	for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++)
		if (stages[i].stage == stage)
			return stages[i].name;
	return NULL;
}

/* From pre-resume on CRIU would only log a refusal and let the tasks go. It may
 * not be asked to kill them either: it would wait for the root task, which
 * waits for its children, whose tracer, CRIU, does not. */
static void refuse_late(const struct session *s, enum criu_stage stage)
{
	if (stage != CRIU_PRE_RESUME && stage != CRIU_POST_RESUME)
		return;
	if (s->root > 0)
		(void)kill(s->root, SIGKILL);
	(void)kill(s->worker, SIGKILL);
}

static int on_stage(void *ctx, const char *name, pid_t pid, int fd_consume, struct error *err)
{
	struct session *s = ctx;
	CLEANUP(fd_closep) int fd = fd_consume;

	if (pid > 0)
		s->root = pid;
	if (strcmp(name, "orphan-pts-master") == 0) {
		if (!s->hooks || !s->hooks->terminal || fd < 0)
			return error_set(err, ENOTTY, "nobody takes the terminal's master");
		return s->hooks->terminal(s->hooks->ctx, TAKE_FD(fd), err);
	}
	for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++) {
		int r;

		if (strcmp(name, stages[i].name) != 0)
			continue;
		fault_pass_of("criu", name);
		if (!s->hooks || !s->hooks->notify)
			return 0;
		r = s->hooks->notify(s->hooks->ctx, stages[i].stage, s->root, err);
		if (r < 0) {
			s->refused = true;
			refuse_late(s, stages[i].stage);
		}
		return r;
	}
	return 0;		/* a stage that we have no business with */
}

/* Puts the reason into *err. */
static int explain(struct worker *w, const struct rpc_request *q, const struct rpc_result *result,
		   int status, int call, struct error *err)
{
	char line[LOG_LINE_MAX] = "";
	struct error ignored;
	int code = result->code > 0 ? result->code : EIO;

	if (call < 0 && err->code != ECONNRESET && err->code != ETIMEDOUT)
		return call;
	if (log_file_decisive_line(q->images_fd, q->log_file, line, &ignored) != 0) {
		if (result->message[0])
			(void)snprintf(line, sizeof(line), "%s", result->message);
		else
			worker_last_words(w, line, sizeof(line));
	}
	if (call < 0 && err->code == ECONNRESET && WIFSIGNALED(status))
		(void)snprintf(line, sizeof(line), "CRIU was killed by signal %d",
			       WTERMSIG(status));
	return error_set(err, code, "%s", line[0] ? line : "CRIU gave no reason");
}

/* From start to reaped worker. */
static int converse(const struct rpc_request *q, const struct worker_plan *plan,
		    const struct criu_hooks *hooks, pid_t *ret_root, struct error *err)
{
	struct session session = { .hooks = hooks };
	struct worker w = WORKER_EMPTY;
	struct rpc_result result;
	struct error late;
	int r, status = 0;

	r = worker_start(plan, &w, err);
	if (r < 0)
		return r;
	if (hooks && hooks->started)
		r = hooks->started(hooks->ctx, w.pid, err);
	if (r < 0) {
		worker_stop(&w);
		return r;
	}
	session.worker = w.pid;
	r = rpc_call(&w, q, on_stage, &session, &result, err);
	fd_close(&w.socket);
	if (r < 0 && q->verb == RPC_RESTORE)
		(void)kill(w.pid, SIGKILL);
	if (worker_reap(&w, &status, &late) < 0 && r == 0) {
		*err = late;
		r = -late.code;
	}
	*ret_root = result.pid > 0 ? result.pid : session.root;
	if (r != 0 && !session.refused)
		r = explain(&w, q, &result, status, r, err);
	worker_stop(&w);
	return r;
}

static int dump_keys(const struct criu_dump_plan *plan, struct keys *ret, struct error *err)
{
	int r = 0;

	if (plan->netns_inode)
		r = keys_add(ret, err, "net[%llu]:%s", (unsigned long long)plan->netns_inode,
			     plan->netns_key);
	for (size_t i = 0; r == 0 && i < plan->n_mounts; i++)
		r = keys_add(ret, err, "mnt[%s]:%s", plan->mounts[i].path, plan->mounts[i].key);
	for (size_t i = 0; r == 0 && i < plan->n_external; i++)
		r = keys_add(ret, err, "%s", plan->external[i]);
	return r;
}

int criu_dump(const struct criu *criu, const struct criu_dump_plan *plan,
	      const struct criu_hooks *hooks, struct error *err)
{
	CLEANUP(keys_freep) struct keys keys = { 0 };
	struct worker_plan worker = {
		.path = criu->path,
		.no_conntrack = plan->netns_inode != 0,
		.prepare = hooks ? hooks->prepare_child : NULL,
		.ctx = hooks ? hooks->ctx : NULL,
	};
	struct rpc_request request = {
		.verb = RPC_DUMP,
		.images_fd = plan->images_fd,
		.log_file = CRIU_DUMP_LOG,
		.log_level = LOG_LEVEL,
		.pid = plan->pid,
		.freeze_cgroup = plan->freeze_cgroup,
		.tcp_skip_in_flight = plan->tcp_skip_in_flight,
		.watched_paths = plan->watched_paths,
		.ext_unix_sk = plan->ext_unix_sk,
		.orphan_pts_master = true,
	};
	CLEANUP(smaps_closep) struct smaps smaps = SMAPS_EMPTY;
	struct error ignored;
	int fds[3];
	pid_t root;

	worker.fds = fds;
	if (plan->carried) {
		worker.carried = WORKER_FD_BASE + (int)worker.n_fds;
		fds[worker.n_fds++] = carried_fd(plan->carried);
	}
	if (smaps_open(&smaps, &ignored) == 0) {	/* else it takes longer */
		worker.smaps = WORKER_FD_BASE + (int)worker.n_fds;
		fds[worker.n_fds++] = smaps.program_fd;
		fds[worker.n_fds++] = smaps.names_fd;
	}
	if (plan->ghost_limit_bytes > UINT32_MAX)
		return error_set(err, EINVAL, "ghost file limit of %llu bytes: at most 4 GiB - 1",
				 (unsigned long long)plan->ghost_limit_bytes);
	request.ghost_limit_bytes = (uint32_t)plan->ghost_limit_bytes;
	if (dump_keys(plan, &keys, err) < 0)
		return -err->code;
	request.external = (const char *const *)keys.list;
	request.n_external = keys.n;
	if (converse(&request, &worker, hooks, &root, err) < 0)
		return -err->code;
	return timers_wake(plan->images_fd, err);
}

/* What the worker inherits: the files, then the network namespace; and there is room
 * for one of the shim. */
struct inheritance {
	int fds[WORKER_FDS_MAX];
	struct rpc_inherit list[WORKER_FDS_MAX];
	size_t n;
};

static int inherit(struct inheritance *h, const char *key, int fd, struct error *err)
{
	if (h->n == WORKER_FDS_MAX - 1)
		return error_set(err, E2BIG, "more than %d descriptors to inherit",
				 WORKER_FDS_MAX - 1);
	h->fds[h->n] = fd;
	h->list[h->n] = (struct rpc_inherit){ .key = key,
					      .worker_fd = WORKER_FD_BASE + (int)h->n };
	h->n++;
	return 0;
}

static int fill_inheritance(const struct criu_restore_plan *plan, struct inheritance *ret,
			    struct error *err)
{
	for (size_t i = 0; i < plan->n_files; i++)
		if (inherit(ret, plan->files[i].key, plan->files[i].fd, err) < 0)
			return -err->code;
	if (plan->netns_fd >= 0)
		return inherit(ret, plan->netns_key, plan->netns_fd, err);
	return 0;
}

/* A half-restored tree is nobody's: kill it and reap its root, our child. */
static void discard(pid_t root)
{
	if (root <= 0)
		return;
	(void)kill(root, SIGKILL);
	while (waitpid(root, NULL, 0) < 0 && errno == EINTR)
		;
}

int criu_restore(const struct criu *criu, const struct criu_restore_plan *plan,
		 const struct criu_hooks *hooks, pid_t *ret_pid, struct error *err)
{
	CLEANUP(keys_freep) struct keys keys = { 0 };
	struct inheritance inherited = { .n = 0 };
	struct worker_plan worker = {
		.path = criu->path,
		.dies_with_caller = true,
		.small_pages = plan->lazy,
		.cgroup = plan->cgroup,
		.prepare = hooks ? hooks->prepare_child : NULL,
		.ctx = hooks ? hooks->ctx : NULL,
	};
	struct rpc_request request = {
		.verb = RPC_RESTORE,
		.images_fd = plan->images_fd,
		.log_file = CRIU_RESTORE_LOG,
		.log_level = LOG_LEVEL,
		.root = plan->root,
		.lazy_pages = plan->lazy,
		.ext_unix_sk = plan->ext_unix_sk,
		.orphan_pts_master = true,
	};
	pid_t root = 0;
	int r;

	for (size_t i = 0; i < plan->n_mounts; i++)
		if (keys_add(&keys, err, "mnt[%s]:%s", plan->mounts[i].key,
			     plan->mounts[i].path) < 0)
			return -err->code;
	if (fill_inheritance(plan, &inherited, err) < 0)
		return -err->code;
	worker.fds = inherited.fds;
	worker.n_fds = inherited.n;
	if (plan->prepared_fd >= 0) {
		worker.prepared = WORKER_FD_BASE + (int)worker.n_fds;
		inherited.fds[worker.n_fds++] = plan->prepared_fd;
	}
	request.inherit = inherited.list;
	request.n_inherit = inherited.n;
	request.external = (const char *const *)keys.list;
	request.n_external = keys.n;
	r = converse(&request, &worker, hooks, &root, err);
	if (r < 0) {
		discard(root);
		return r;
	}
	*ret_pid = root;
	return 0;
}
