#include <fcntl.h>
#include <string.h>

#include "migrate/memory/tracker_state.h"

/* Attempts at following a process that don't work out; each may cost the time
 * that it takes to see that a thread doesn't stop. */
#define FAILURES_MAX 8

static int scan_all(struct tracker *t, struct tracked *p, struct tracker_view *view,
		    struct error *err)
{
	struct pagescan_query query = tracker_populated(t);

	(void)p;
	for (size_t i = 0; i < view->vmas.n; i++)
		if (tracker_scan_pages(t, view, &query, view->vmas.at[i].start,
				       view->vmas.at[i].end, err) < 0)
			return -err->code;
	return 0;
}

static int follow_nothing(struct tracker *t, struct tracked *p, struct error *err)
{
	(void)t, (void)p, (void)err;
	return 0;
}

static void forget_nothing(struct tracked *p)
{
	(void)p;
}

static int probe_nothing(struct error *err)
{
	(void)err;
	return 0;
}

static const struct tracker_backend none_backend = {
	.kind = TRACKER_NONE,
	.probe = probe_nothing,
	.follow = follow_nothing,
	.scan = scan_all,
	.forget = forget_nothing,
};

static const struct tracker_backend *const backends[] = {
	&tracker_uffd_backend,
	&tracker_softdirty_backend,
	&none_backend,
};

const char *tracker_kind_name(enum tracker_kind kind)
{
	static const char *const names[] = {
		[TRACKER_ANY] = "any",
		[TRACKER_UFFD] = "userfaultfd",
		[TRACKER_SOFT_DIRTY] = "soft-dirty",
		[TRACKER_NONE] = "none",
	};

	return (size_t)kind < sizeof(names) / sizeof(*names) ? names[kind] : "unknown";
}

int tracker_parse_kind(const char *name, enum tracker_kind *ret, struct error *err)
{
	for (enum tracker_kind kind = TRACKER_ANY; kind <= TRACKER_NONE; kind++)
		if (!strcmp(name, tracker_kind_name(kind))) {
			*ret = kind;
			return 0;
		}
	return error_set(err, EINVAL, "'%.20s' is not any, userfaultfd, soft-dirty or none", name);
}

enum tracker_kind tracker_kind(const struct tracker *t)
{
	return t->backend->kind;
}

static const struct tracker_backend *choose(enum tracker_kind kind, struct error *err)
{
	for (size_t i = 0; i < sizeof(backends) / sizeof(*backends); i++)
		if ((kind == TRACKER_ANY || kind == backends[i]->kind) &&
		    backends[i]->probe(err) == 0)
			return backends[i];
	(void)error_wrap(err, "track writes by %s", tracker_kind_name(kind));
	err->code = EOPNOTSUPP;
	return NULL;
}

int tracker_open(const struct cgroup *cg, enum tracker_kind kind, struct tracker **ret,
		 struct error *err)
{
	struct error why = { .code = EINVAL, .msg = "there is no such kind" };
	const struct tracker_backend *backend = choose(kind, &why);
	CLEANUP(tracker_freep) struct tracker *t = NULL;

	if (!backend) {
		*err = why;
		return -err->code;
	}
	t = calloc(1, sizeof(*t));
	if (!t)
		return error_set(err, ENOMEM, "out of memory for the tracker");
	t->cgroup = cg;
	t->backend = backend;
	t->guards = pagescan_guards();
	t->carried.before = &t->populated;
	t->populated.before = &t->batch;
	*ret = TAKE_PTR(t);
	return 0;
}

void tracker_free(struct tracker *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->n; i++)
		t->backend->forget(t->tracked + i);
	free(t->tracked);
	free(t);
}

static int compare_pids(const void *a, const void *b)
{
	const pid_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* A process that is new, or whose address space is. */
static void renew(struct tracker *t, struct tracked *p, const struct address_space *space)
{
	*p = (struct tracked){
		.id = { space->pid, space->ns_pid, ++t->last_generation },
		.identity = space->identity,
		.round = t->rounds,
		.uffd = -EBADF,
	};
}

/* tracked is in order of pids, and so are the calls of a round: *at goes along. */
static int find(struct tracker *t, const struct address_space *space, size_t *at,
		struct tracked **ret, struct error *err)
{
	struct tracked *p;

	while (*at < t->n && t->tracked[*at].id.pid < space->pid)
		(*at)++;
	p = t->tracked + *at;
	if (*at < t->n && p->id.pid == space->pid) {
		if (memcmp(&p->identity, &space->identity, sizeof(p->identity))) {
			t->backend->forget(p);
			renew(t, p, space);
		}
		*ret = p;
		return 0;
	}
	if (t->n == t->size) {
		size_t size = t->size ? t->size * 2 : 64;

		p = reallocarray(t->tracked, size, sizeof(*p));
		if (!p)
			return error_set(err, ENOMEM, "out of memory for %zu processes", size);
		t->tracked = p;
		t->size = size;
	}
	p = t->tracked + *at;
	memmove(p + 1, p, (t->n++ - *at) * sizeof(*p));
	renew(t, p, space);
	*ret = p;
	return 0;
}

/* Most processes that are new in a round are gone in the next one. */
static void follow(struct tracker *t, struct tracked *p)
{
	bool old = t->rounds == 0 || p->round < t->rounds;
	struct error why;

	if (p->followed || t->frozen || !old || p->failures >= FAILURES_MAX)
		return;
	if (t->backend->follow(t, p, &why) < 0) {
		p->failures++;
		return;
	}
	p->followed = p->fresh = true;
}

/* What was found counts only if the program is the same before and after the
 * mappings were read; another one is found in the next round. */
static int track_process(struct tracker *t, pid_t pid, size_t *at, tracker_scan_fn scan, struct error *err)
{
	CLEANUP(tracker_view_closep) struct tracker_view view = { .pagemap_fd = -EBADF,
								  .space = ADDRESS_SPACE_EMPTY };
	struct tracked *p = NULL;
	struct error why;
	int r = address_space_open(pid, &view.space, err);

	if (r <= 0 || find(t, &view.space, at, &p, err) < 0)
		return r <= 0 ? r : -err->code;
	follow(t, p);
	p->round = t->rounds;
	r = tracker_view_read(&view, err);
	if (r <= 0)
		return r;
	t->batch.process = t->populated.process = t->carried.process = &p->id;
	p->doubtful = false;
	r = scan(t, p, &view, &why);
	if (r == 0)
		r = tracker_batch_flush(&t->carried, &why);
	if (r == -ESRCH && !tracker_broken(t)) {
		t->batch.n = t->populated.n = t->carried.n = 0;	/* it has ended */
		return 0;
	}
	if (r < 0)
		*err = why;
	else
		p->fresh = p->doubtful;
	return r;
}

static void forget_ended(struct tracker *t)
{
	size_t kept = 0;

	for (size_t i = 0; i < t->n; i++) {
		if (t->tracked[i].round == t->rounds)
			t->tracked[kept++] = t->tracked[i];
		else
			t->backend->forget(t->tracked + i);
	}
	t->n = kept;
}

int tracker_each(struct tracker *t, tracker_scan_fn scan, struct error *err)
{
	CLEANUP(freep) pid_t *pids = NULL;
	size_t n, at = 0;

	if (cgroup_is_frozen(t->cgroup, &t->frozen, err) < 0 ||
	    cgroup_pids(t->cgroup, &pids, &n, err) < 0)
		return error_wrap(err, "track writes");
	if (n)
		qsort(pids, n, sizeof(*pids), compare_pids);
	for (size_t i = 0; i < n; i++)
		if (track_process(t, pids[i], &at, scan, err) < 0)
			return error_wrap(err, "track writes of process %d", pids[i]);
	forget_ended(t);
	t->rounds++;
	return 0;
}

int tracker_round(struct tracker *t, tracker_visit_fn visit, void *ctx, struct error *err)
{
	tracker_batch_begin(&t->batch, visit, ctx);
	tracker_batch_begin(&t->populated, NULL, NULL);
	tracker_batch_begin(&t->carried, NULL, NULL);
	return tracker_each(t, t->backend->scan, err);
}
