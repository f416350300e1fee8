#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "criu-glue/log.h"
#include "criu-glue/session.h"
#include "engine/base/cleanup.h"
#include "engine/base/fault.h"
#include "engine/base/fd.h"

void keys_freep(struct keys *k)
{
	for (size_t i = 0; i < k->n; i++)
		free(k->list[i]);
	free(k->list);
}

int keys_add(struct keys *k, struct error *err, const char *fmt, ...)
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
	(void)kill(s->worker.pid, SIGKILL);
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

/* The tasks may wait in the kernel, and CRIU for them. */
static int on_watched(void *ctx, struct error *err)
{
	struct session *s = ctx;
	int r = s->hooks->watched(s->hooks->ctx, err);

	if (r < 0)
		s->refused = true;
	return r;
}

/* It had its end of the socket as long as it lived. */
static bool has_ended(const struct error *err)
{
	return err->code == ECONNRESET || err->code == EPIPE;
}

/* Puts the reason into *err. */
static int explain(struct worker *w, const struct rpc_request *q, const struct rpc_result *result,
		   int status, int call, struct error *err)
{
	char line[LOG_LINE_MAX] = "";
	struct error ignored;
	int code = result->code > 0 ? result->code : EIO;

	if (call < 0 && !has_ended(err) && err->code != ETIMEDOUT)
		return call;
	if (log_file_decisive_line(q->images_fd, q->log_file, line, &ignored) != 0) {
		if (result->message[0])
			(void)snprintf(line, sizeof(line), "%s", result->message);
		else
			worker_last_words(w, line, sizeof(line));
	}
	if (call < 0 && has_ended(err) && WIFSIGNALED(status))
		(void)snprintf(line, sizeof(line), "CRIU was killed by signal %d",
			       WTERMSIG(status));
	return error_set(err, code, "%s", line[0] ? line : "CRIU gave no reason");
}

int session_start(struct session *s, const struct worker_plan *plan, struct error *err)
{
	int r = worker_start(plan, &s->worker, err);

	if (r == 0 && s->hooks && s->hooks->started)
		r = s->hooks->started(s->hooks->ctx, s->worker.pid, err);
	if (r < 0)
		session_stop(s);
	return r;
}

int session_probe(struct session *s, struct error *err)
{
	struct error ignored;
	int status = 0;

	if (rpc_probe(&s->worker, err) == 0)
		return 0;
	if (has_ended(err) && worker_reap(&s->worker, &status, &ignored) == 0 && WIFSIGNALED(status))
		(void)error_set(err, EIO, "CRIU was killed by signal %d", WTERMSIG(status));
	session_stop(s);
	return error_wrap(err, "let CRIU look at the kernel");
}

int session_talk(struct session *s, const struct rpc_request *q, struct error *err)
{
	struct worker *w = &s->worker;
	struct rpc_result result;
	struct rpc_request request = *q;
	struct error late;
	int status = 0, r;

	request.watched_fd = s->hooks ? s->hooks->watched_fd : 0;
	request.watched = on_watched;
	r = rpc_call(w, &request, on_stage, s, &result, err);

	fd_close(&w->socket);
	if (r < 0 && q->verb == RPC_RESTORE)
		(void)kill(w->pid, SIGKILL);
	if (worker_reap(w, &status, &late) < 0 && r == 0) {
		*err = late;
		r = -late.code;
	}
	if (result.pid > 0)
		s->root = result.pid;
	if (r != 0 && !s->refused)
		r = explain(w, q, &result, status, r, err);
	session_stop(s);
	return r;
}

void session_stop(struct session *s)
{
	worker_stop(&s->worker);
}
