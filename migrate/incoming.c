#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "engine/base/fault.h"
#include "engine/base/fd.h"
#include "migrate/incoming.h"
#include "migrate/manifest.h"
#include "migrate/token.h"

/* ---- the mark ---- */

/* NULL in *ret where there is no mark. */
static int read_mark(const struct container *c, char **ret, struct error *err)
{
	int r = fd_read_file_at(c->dir_fd, CONTAINER_MARK, TOKEN_SIZE, ret, NULL, err);

	if (r == -ENOENT)
		*ret = NULL;
	return r == -ENOENT ? 0 : r;
}

/* Whoever was asked meanwhile may have settled it and taken the mark off, and its record
 * may be forgotten: then it is a container of this node like any other, and who comes
 * late with it must not take it for one that was never resumed. */
static int has_mark(const struct incoming *in, bool *ret, struct error *err)
{
	CLEANUP(freep) char *mark = NULL;

	*ret = false;
	if (in->container && read_mark(in->container, &mark, err) < 0)
		return -err->code;
	*ret = mark && !strcmp(mark, in->token);
	return 0;
}

static int clean_marked(const struct incoming *in, bool keep_folder, struct error *err)
{
	bool marked;

	if (has_mark(in, &marked, err) < 0)
		return -err->code;
	return marked ? container_clean(in->container, keep_folder, err) : 0;
}

/* ---- the target's actions ---- */

static int decide(const struct incoming *in, enum token_outcome wanted, struct error *err)
{
	enum token_outcome now;

	if (token_decide(in->node, in->token, wanted, &now, err) < 0)
		return -err->code;
	return now == wanted ? 0 : error_set(err, EAGAIN, "it was decided otherwise meanwhile");
}

static int decide_resumed(void *ctx, struct error *err)
{
	return decide(ctx, TOKEN_RESUMED, err);
}

static int decide_refused(void *ctx, struct error *err)
{
	return decide(ctx, TOKEN_REFUSED, err);
}

static int thaw_copy(void *ctx, struct error *err)
{
	const struct incoming *in = ctx;
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	CLEANUP(manifest_freep) struct manifest *m = NULL;
	CLEANUP(fd_closep) int meta = -EBADF;
	struct container_state st;
	struct error ignored;
	int r;

	if (!in->container)
		return 0;
	r = container_cgroup(in->container, false, &cg, err);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	fault_pass("adopt-begin");
	if (container_state(in->container, &st, &ignored) == 0)
		(void)container_reconnect(in->container, st.pid, &ignored);
	if (fd_open_dir_at(in->container->dir_fd, "meta", false, 0, &meta, &ignored) == 0 &&
	    manifest_read(meta, &m, &ignored) == 0 && m->was_paused)
		return 0;
	return cgroup_thaw(cg, err);
}

static int record_running(void *ctx, struct error *err)
{
	const struct incoming *in = ctx;
	struct container_state st;

	if (!in->container)
		return 0;
	if (container_state(in->container, &st, err) < 0)
		return -err->code;
	st.status = CONTAINER_RUNNING;
	if (container_state_write(in->container, &st, err) < 0)
		return -err->code;
	fault_pass("adopt-end");
	return 0;
}

/* One that says "incoming" and has no mark would be taken for what was never more. */
static int sync_files(void *ctx, struct error *err)
{
	const struct incoming *in = ctx;
	struct container_state st;

	int r = in->container ? container_state(in->container, &st, err) : -ENOENT;

	if (r < 0 && r != -ENOENT)	/* not there: removed since it arrived */
		return r;
	if (r == 0 && st.status == CONTAINER_INCOMING)
		return error_set(err, EBUSY, "container '%s': its monitor has not recorded yet that it runs",
				 in->container->name);
	if (fault_point("release-sync", err) < 0)
		return error_wrap(err, "sync");
	return node_sync(in->node, err);
}

static int write_synced(void *ctx, struct error *err)
{
	const struct incoming *in = ctx;

	return token_write_synced(in->node, in->token, err);
}

static int remove_mark(void *ctx, struct error *err)
{
	const struct incoming *in = ctx;

	if (!in->container)
		return 0;
	if (unlinkat(in->container->dir_fd, CONTAINER_MARK, 0) < 0 && errno != ENOENT)
		return error_set(err, errno, "remove the mark: %s", strerror(errno));
	return fsync(in->container->dir_fd) < 0 ?
		error_set(err, errno, "remove the mark: fsync: %s", strerror(errno)) : 0;
}

static int kill_copy(void *ctx, struct error *err)
{
	const struct incoming *in = ctx;

	return clean_marked(in, true, err);
}

static int remove_folder(void *ctx, struct error *err)
{
	const struct incoming *in = ctx;

	return clean_marked(in, false, err);
}

static int forget(void *ctx, struct error *err)
{
	const struct incoming *in = ctx;

	return token_forget(in->node, in->token, err);
}

static void announce(const struct container *c)
{
	struct container_state st;
	struct error ignored;

	if (container_state(c, &st, &ignored) == 0 && st.status == CONTAINER_RUNNING && st.migrations)
		(void)container_announce(c, st.pid, &ignored);
}

/* What was said at its arrival got lost, if nobody could hear this node then. One that
 * has no mark any more is one of those that have come. */
static void announce_again(const struct incoming *in)
{
	char **names = NULL;
	struct error ignored;
	size_t n = 0;

	if (in->container) {
		announce(in->container);
		return;
	}
	if (container_list(in->node, &names, &n, &ignored) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		CLEANUP(container_freep) struct container *c = NULL;

		if (container_open(in->node, names[i], &c, &ignored) == 0)
			announce(c);
	}
	fd_list_free(names, n);
}

static int answer(const struct incoming *in, enum message_outcome outcome, struct error *err)
{
	const struct message m = { .type = WIRE_ANSWER, .answer = { .token = in->token, .outcome = outcome } };

	if (!in->channel || !in->asked)
		return 0;
	if (channel_send(in->channel, &m, err) < 0)
		return -err->code;
	if (outcome == MESSAGE_OUTCOME_RESUMED || outcome == MESSAGE_OUTCOME_SYNCED)
		announce_again(in);
	return 0;
}

/* Who is told by RESUMED learns more, from whoever has the connection. */
static int tell_resumed(void *ctx, struct error *err)
{
	return answer(ctx, MESSAGE_OUTCOME_RESUMED, err);
}

static int tell_synced(void *ctx, struct error *err)
{
	const struct incoming *in = ctx;
	const struct message m = { .type = WIRE_SYNCED, .synced.token = in->token };

	if (in->asked)
		return answer(in, MESSAGE_OUTCOME_SYNCED, err);
	return in->channel ? channel_send(in->channel, &m, err) : 0;
}

static int tell_refused(void *ctx, struct error *err)
{
	return answer(ctx, MESSAGE_OUTCOME_REFUSED, err);
}

static int tell_lost(void *ctx, struct error *err)
{
	return answer(ctx, MESSAGE_OUTCOME_LOST, err);
}

static int tell_forgotten(void *ctx, struct error *err)
{
	const struct incoming *in = ctx;
	const struct message m = { .type = WIRE_FORGOTTEN, .forgotten.token = in->token };

	return in->channel ? channel_send(in->channel, &m, err) : 0;
}

static const protocol_do does[PROTOCOL_ACTION_MAX_] = {
	[ACTION_DECIDE_RESUMED] = decide_resumed, [ACTION_DECIDE_REFUSED] = decide_refused,
	[ACTION_THAW_COPY] = thaw_copy, [ACTION_RECORD_RUNNING] = record_running,
	[ACTION_SYNC_FILES] = sync_files, [ACTION_WRITE_SYNCED] = write_synced, [ACTION_REMOVE_MARK] = remove_mark,
	[ACTION_KILL_COPY] = kill_copy, [ACTION_REMOVE_FOLDER] = remove_folder, [ACTION_FORGET] = forget,
	[ACTION_TELL_RESUMED] = tell_resumed, [ACTION_TELL_SYNCED] = tell_synced,
	[ACTION_TELL_REFUSED] = tell_refused, [ACTION_TELL_LOST] = tell_lost,
	[ACTION_TELL_FORGOTTEN] = tell_forgotten,
};

/* ---- events ---- */

int incoming_state(const struct incoming *in, enum protocol_state *ret, struct error *err)
{
	static const enum protocol_state states[] = {
		[TOKEN_REFUSED] = TARGET_REFUSED, [TOKEN_RESUMED] = TARGET_RESUMED,
		[TOKEN_SYNCED] = TARGET_SYNCED, [TOKEN_LOST] = TARGET_LOST,
	};
	enum token_outcome outcome;
	bool marked;

	if (token_look_up(in->node, in->token, &outcome, err) < 0)
		return -err->code;
	if (outcome != TOKEN_UNKNOWN) {
		*ret = states[outcome];
		return 0;
	}
	/* After the record: the mark goes first. */
	if (has_mark(in, &marked, err) < 0)
		return -err->code;
	*ret = marked ? TARGET_INCOMING : TARGET_NOTHING;
	return 0;
}

int incoming_event(const struct incoming *in, enum protocol_event event, struct error *err)
{
	struct incoming copy = *in;
	enum protocol_state state = TARGET_NOTHING;
	int r;

	do {
		if (incoming_state(in, &state, err) < 0)
			return -err->code;
		r = protocol_step(&state, event, does, &copy, err);
	} while (r == -EAGAIN);		/* somebody decided: by the new state */
	return r;
}

int incoming_sync(const struct incoming *in, struct error *err)
{
	enum protocol_state state = TARGET_NOTHING;

	if (incoming_event(in, EVENT_SYNC, err) < 0 || incoming_state(in, &state, err) < 0)
		return -err->code;
	if (state == TARGET_NOTHING)	/* the source was told by somebody else, and has answered */
		return 0;
	if (state != TARGET_SYNCED)
		return error_set(err, ESTALE, "its record says '%s'", protocol_state_name(state));
	return incoming_event(in, EVENT_SWEEP, err);
}

int incoming_find(const struct node *node, const char *token, struct container **ret, struct error *err)
{
	char **names = NULL;
	size_t n = 0;

	*ret = NULL;
	if (container_list(node, &names, &n, err) < 0)
		return -err->code;
	for (size_t i = 0; i < n && !*ret; i++) {
		CLEANUP(container_freep) struct container *c = NULL;
		CLEANUP(freep) char *mark = NULL;
		struct error ignored;

		if (container_open(node, names[i], &c, &ignored) == 0 && read_mark(c, &mark, &ignored) == 0 && mark &&
		    !strcmp(mark, token))
			*ret = TAKE_PTR(c);
	}
	fd_list_free(names, n);
	return 0;
}

int incoming_finish(struct container *c, struct error *err)
{
	CLEANUP(freep) char *token = NULL;
	struct incoming in = { .node = c->node, .container = c };
	enum protocol_state state = TARGET_NOTHING;

	if (read_mark(c, &token, err) < 0)
		return -err->code;
	if (!token)
		return 0;
	in.token = token;
	if (incoming_state(&in, &state, err) < 0)
		return -err->code;
	if (state == TARGET_RESUMED)
		return incoming_event(&in, EVENT_SYNC, err);
	if (state == TARGET_SYNCED)
		return incoming_event(&in, EVENT_SWEEP, err);
	return error_set(err, ESTALE, "container '%s': the machine crashed before it was on disk here, so it goes on "
			 "where it came from", c->name);
}

/* ---- sweeping ---- */

static bool is_unsettled(const struct container_state *st, enum protocol_state state)
{
	return st->status == CONTAINER_INCOMING || state == TARGET_LOST || state == TARGET_SYNCED ||
	       (state == TARGET_RESUMED && st->alive && !st->monitor_alive);
}

/* As sweep() would find it, without its lock: what is only looked at must not refuse its user's command. */
static bool may_be_unsettled(struct container *c)
{
	CLEANUP(freep) char *token = NULL;
	struct incoming in = { .node = c->node, .container = c };
	enum protocol_state state = TARGET_NOTHING;
	struct container_state st;
	struct error ignored;

	if (container_state(c, &st, &ignored) < 0 || read_mark(c, &token, &ignored) < 0)
		return true;
	in.token = token;
	return token ? incoming_state(&in, &state, &ignored) < 0 || is_unsettled(&st, state) :
		       st.status == CONTAINER_INCOMING;
}

static int sweep(struct container *c, const struct container_state *st, struct error *err)
{
	CLEANUP(freep) char *token = NULL;
	struct incoming in = { .node = c->node, .container = c };
	enum protocol_state state = TARGET_NOTHING;

	if (read_mark(c, &token, err) < 0)
		return -err->code;
	if (!token)		/* never more than begun; or a restore, which nobody asks about */
		return st->status == CONTAINER_INCOMING ? container_clean(c, false, err) : 0;
	in.token = token;
	if (incoming_state(&in, &state, err) < 0)
		return -err->code;
	return is_unsettled(st, state) ? incoming_event(&in, EVENT_SWEEP, err) : 0;
}

/* Its receiver is dead, so its monitor is about to end. */
static bool wait_for_end(const struct container_state *st, uint64_t patience_us)
{
	CLEANUP(fd_closep) int monitor = pidfd_open(st->monitor_pid, 0);
	struct pollfd p = { .fd = monitor, .events = POLLIN };

	return monitor < 0 || container_pid_start(st->monitor_pid) != st->monitor_start ||
	       poll(&p, 1, (int)(patience_us / 1000)) > 0;
}

static int sweep_one(const struct node *node, const char *name, uint64_t patience_us, struct error *err)
{
	CLEANUP(container_freep) struct container *c = NULL;
	struct container_state st;
	struct error ignored;

	if (container_open(node, name, &c, &ignored) < 0 || !may_be_unsettled(c) ||
	    container_lock(c, false, &ignored) < 0 || container_state(c, &st, &ignored) < 0)
		return 0;
	if (st.status == CONTAINER_INCOMING && st.monitor_alive &&
	    (!wait_for_end(&st, patience_us) || container_state(c, &st, &ignored) < 0))
		return 0;
	return sweep(c, &st, err);
}

/* Only a monitor with the mark could still want to resume. */
static int sweep_record(const struct node *node, const char *token, uint64_t patience_us, struct error *err)
{
	CLEANUP(container_freep) struct container *c = NULL;
	struct incoming in = { .node = node, .token = token };
	enum protocol_state state = TARGET_NOTHING;

	(void)patience_us;
	if (incoming_state(&in, &state, err) < 0 || incoming_find(node, token, &c, err) < 0)
		return -err->code;
	return state == TARGET_REFUSED && !c ? incoming_event(&in, EVENT_SWEEP, err) : 0;
}

typedef int sweep_fn(const struct node *node, const char *name, uint64_t patience_us, struct error *err);

/* One that can't be settled now must not stand in the way of the others. */
static int sweep_each(const struct node *node, char **names, size_t n, sweep_fn *fn, uint64_t patience_us,
		      struct error *err)
{
	struct error ignored;
	int r = 0;

	for (size_t i = 0; i < n; i++)
		if (fn(node, names[i], patience_us, r < 0 ? &ignored : err) < 0 && r == 0)
			r = -err->code;
	fd_list_free(names, n);
	return r;
}

int incoming_sweep(const struct node *node, uint64_t patience_us, struct error *err)
{
	char **names = NULL;
	size_t n = 0;
	int r;

	if (container_list(node, &names, &n, err) < 0)
		return -err->code;
	r = sweep_each(node, names, n, sweep_one, patience_us, err);
	container_remove_leftovers(node);
	token_remove_temporary(node);
	if (r < 0)
		return r;
	if (token_list(node, &names, &n, err) < 0)
		return -err->code;
	return sweep_each(node, names, n, sweep_record, patience_us, err);
}

int incoming_sweep_one(const struct node *node, const char *name, struct error *err)
{
	return sweep_one(node, name, 0, err);
}
