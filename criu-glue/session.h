/*
 * session.h - a CRIU process from its start to its end, for criu.c and restorer.c
 *
 *	struct session s = SESSION_INIT(hooks);
 *	r = session_start(&s, &worker_plan, err);
 *	... as long as one likes: CRIU waits ...
 *	r = session_talk(&s, &request, err);	reaped, whatever came of it
 */
#pragma once

#include "criu-glue/criu.h"
#include "criu-glue/rpc.h"
#include "criu-glue/worker.h"

#define CRIU_LOG_LEVEL 4

struct session {
	const struct criu_hooks *hooks;	/* may be NULL; may be others after the start */
	struct worker worker;
	pid_t root;			/* of a restore, when CRIU has told it */
	bool refused;			/* by a hook, whose error is the reason */
};
#define SESSION_INIT(h) { .hooks = (h), .worker = WORKER_EMPTY }

/* Starts CRIU and tells hooks.started. The plan is needed no more afterwards. */
int session_start(struct session *s, const struct worker_plan *plan, struct error *err);

/* Lets it find out what the kernel can do, and keep that for its request. */
int session_probe(struct session *s, struct error *err);

/* The one request; hooks.notify is called for its stages. Afterwards nothing of
 * CRIU is left but, of a restore, its root task s->root. */
int session_talk(struct session *s, const struct rpc_request *q, struct error *err);

/* Kills what still runs; fine for one that was never started, or is over. */
void session_stop(struct session *s);

/* Owner of strings that a request borrows. */
struct keys {
	char **list;
	size_t n;
};

int keys_add(struct keys *k, struct error *err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void keys_freep(struct keys *k);
