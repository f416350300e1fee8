/*
 * The last round: what was written, and what the page stream carries of a frozen
 * container. CRIU puts a thread back on its stack before anything serves page
 * faults, so the pages around the stack pointers stay with CRIU; so do guards,
 * which aren't pages.
 */
#include <pthread.h>
#include <unistd.h>

#include "migrate/memory/tracker_state.h"

#define PARTS_MAX 4u
#define PART_BYTES (UINT64_C(128) << 20)

/* Ranges in address order that are not carried. */
struct holes {
	struct tracker_range *at;
	size_t n, size;
};

/* Collects what is between the holes, and between what else is left out. */
struct rest {
	struct tracker_batch *to;
	const struct holes *holes;
	size_t next;			/* hole */
	uint64_t from;			/* up to here all is said */
};

static int add_hole(struct holes *h, uint64_t start, uint64_t end, struct error *err)
{
	if (h->n && start <= h->at[h->n - 1].end) {
		if (end > h->at[h->n - 1].end)
			h->at[h->n - 1].end = end;
		return 0;
	}
	if (h->n == h->size) {
		size_t size = h->size ? h->size * 2 : 64;
		struct tracker_range *more = reallocarray(h->at, size, sizeof(*more));

		if (!more)
			return error_set(err, ENOMEM, "out of memory for %zu stacks", size);
		h->at = more;
		h->size = size;
	}
	h->at[h->n++] = (struct tracker_range){ start, end };
	return 0;
}

static void free_holes(struct holes *h)
{
	free(h->at);
}

static int find_stacks(const struct address_space *space, struct holes *h, struct error *err)
{
	CLEANUP(freep) uint64_t *stacks = NULL;
	size_t n;

	if (address_space_stacks(space, &stacks, &n, err) < 0)
		return -err->code;
	for (size_t i = 0; i < n; i++) {
		uint64_t page = stacks[i] / PAGESCAN_PAGE * PAGESCAN_PAGE;

		if (add_hole(h, page - PAGESCAN_PAGE, page + 2 * PAGESCAN_PAGE, err) < 0)
			return -err->code;
	}
	return 0;
}

/* Hands out [from, end) without the holes; calls come in address order. */
static int add_until(struct rest *r, uint64_t end, struct error *err)
{
	const struct holes *h = r->holes;
	uint64_t start = r->from;

	while (r->next < h->n && h->at[r->next].end <= start)
		r->next++;
	for (size_t i = r->next; i < h->n && h->at[i].start < end; i++) {
		if (tracker_batch_add(r->to, start, h->at[i].start, err) < 0)
			return -err->code;
		start = h->at[i].end;
	}
	r->from = end;
	return tracker_batch_add(r->to, start, end, err);
}

static int leave_out(struct rest *r, const struct pagescan_region *region, struct error *err)
{
	if (add_until(r, region->start, err) < 0)
		return -err->code;
	r->from = region->end;
	return 0;
}

/* One process in its last round. */
struct last {
	struct tracker *t;
	const struct tracker_view *view;
	uint64_t written;		/* what tells in this mapping; 0: nothing does */
	bool whole;			/* then all that is there counts as written */
	struct rest all, populated, carried;
};

/* Of all but pages that are simply there and were not written: these the kernel
 * passes by, which takes a tenth of the time that listing them takes. */
static int sort_region(struct last *l, const struct pagescan_region *r, struct error *err)
{
	bool guard = r->categories & l->t->guards;
	bool absent = guard || r->categories & PAGESCAN_PFNZERO ||
		      !(r->categories & (PAGESCAN_PRESENT | PAGESCAN_SWAPPED));

	if (!absent && r->categories & l->written &&
	    tracker_batch_add(&l->t->batch, r->start, r->end, err) < 0)
		return -err->code;
	if (absent && l->whole && leave_out(&l->all, r, err) < 0)
		return -err->code;
	if (absent && leave_out(&l->populated, r, err) < 0)
		return -err->code;
	return guard ? leave_out(&l->carried, r, err) : 0;
}

/* Part of a mapping that another thread looks at meanwhile, as far as there is room. */
struct ahead {
	pthread_t thread;
	bool is_running;
	int pagemap_fd;
	const struct pagescan_query *query;
	uint64_t start, end, reached;
	struct error error;
	size_t n;
	struct pagescan_region regions[TRACKER_BATCH];
};

static void *ahead_main(void *ctx)
{
	struct ahead *a = ctx;

	(void)pagescan_run(a->pagemap_fd, a->query, a->start, a->end, a->regions, TRACKER_BATCH, &a->n,
			   &a->reached, &a->error);
	return NULL;
}

/* So large that a thread is worth its start, and not more of them than processors. */
static size_t count_parts(const struct vma *vma)
{
	size_t n = (vma->end - vma->start) / PART_BYTES;
	long processors = sysconf(_SC_NPROCESSORS_ONLN);

	if (n > PARTS_MAX)
		n = PARTS_MAX;
	return processors > 0 && n > (size_t)processors ? (size_t)processors : n;
}

/* Cuts vma into n + 1 parts; the first is the caller's. Without a thread a part is
 * looked at when its turn comes. */
static void begin_ahead(struct ahead *parts, size_t n, int pagemap_fd, const struct vma *vma,
			const struct pagescan_query *query)
{
	uint64_t part = (vma->end - vma->start) / (n + 1) / PAGESCAN_PAGE * PAGESCAN_PAGE;

	for (size_t i = 0; i < n; i++) {
		struct ahead *a = &parts[i];

		a->pagemap_fd = pagemap_fd;
		a->query = query;
		a->start = a->reached = vma->start + (i + 1) * part;
		a->end = i + 1 < n ? a->start + part : vma->end;
		a->is_running = pthread_create(&a->thread, NULL, ahead_main, a) == 0;
	}
}

static int sort_regions(struct last *l, const struct pagescan_region *regions, size_t n, struct error *err)
{
	for (size_t i = 0; i < n; i++)
		if (sort_region(l, &regions[i], err) < 0)
			return -err->code;
	return 0;
}

static int walk_part(struct last *l, const struct pagescan_query *query, uint64_t at, uint64_t end,
		     struct error *err)
{
	for (size_t n; at < end;)
		if (pagescan_run(l->view->pagemap_fd, query, at, end, l->t->regions, TRACKER_BATCH, &n, &at,
				 err) < 0 ||
		    sort_regions(l, l->t->regions, n, err) < 0)
			return -err->code;
	return 0;
}

static void join(struct ahead *a)
{
	if (a->is_running)
		(void)pthread_join(a->thread, NULL);
	a->is_running = false;
}

static int take_ahead(struct last *l, struct ahead *a, struct error *err)
{
	join(a);
	if (a->error.code) {
		*err = a->error;
		return -err->code;
	}
	if (sort_regions(l, a->regions, a->n, err) < 0)
		return -err->code;
	return walk_part(l, a->query, a->reached, a->end, err);
}

static int walk_parts(struct last *l, const struct vma *vma, const struct pagescan_query *query,
		      struct error *err)
{
	size_t n = count_parts(vma);
	CLEANUP(freep) struct ahead *parts = n > 1 ? calloc(n - 1, sizeof(*parts)) : NULL;
	int r;

	if (!parts)
		return walk_part(l, query, vma->start, vma->end, err);
	begin_ahead(parts, n - 1, l->view->pagemap_fd, vma, query);
	r = walk_part(l, query, vma->start, parts[0].start, err);
	for (size_t i = 0; i < n - 1; i++) {
		if (r == 0)
			r = take_ahead(l, &parts[i], err);
		join(&parts[i]);
	}
	return r;
}

static int walk(struct last *l, const struct vma *vma, struct error *err)
{
	const uint64_t absent = PAGESCAN_PFNZERO | l->t->guards;
	const struct pagescan_query query = {
		.any = absent | l->written,
		.any_not = PAGESCAN_PRESENT,
		.tell = absent | l->written | PAGESCAN_PRESENT | PAGESCAN_SWAPPED,
		.mode = l->written ? PAGESCAN_CHECK : PAGESCAN_LOOK,
	};

	l->all.from = l->populated.from = l->carried.from = vma->start;
	if (walk_parts(l, vma, &query, err) < 0)
		return -err->code;
	if (l->whole && add_until(&l->all, vma->end, err) < 0)
		return -err->code;
	return add_until(&l->populated, vma->end, err) < 0 ? -err->code : add_until(&l->carried, vma->end, err);
}

/* One that is not registered says so before it says anything else. */
static int walk_vma(struct last *l, const struct vma *vma, uint64_t written, bool whole, struct error *err)
{
	struct error why;
	int r;

	l->written = whole ? 0 : written;
	l->whole = whole;
	r = walk(l, vma, &why);
	if (r == -EPERM && l->written && !tracker_broken(l->t) && l->populated.from == vma->start) {
		l->written = 0;
		l->whole = true;
		return walk(l, vma, err);
	}
	if (r < 0)
		*err = why;
	return r;
}

/* A backend whose marks are not the page tables' has its own look at them first. */
static int finish(struct tracker *t, struct tracked *p, struct tracker_view *view, struct error *err)
{
	CLEANUP(free_holes) struct holes holes = { 0 };
	const struct holes none = { 0 };
	bool whole = t->backend->written && (!p->followed || p->fresh);
	struct last l = { .t = t, .view = view,
			  .all = { &t->batch, &none, 0, 0 },
			  .populated = { &t->populated, &holes, 0, 0 },
			  .carried = { &t->carried, &holes, 0, 0 } };

	if (!t->frozen)
		return error_set(err, EBUSY, "the container is not frozen");
	if (find_stacks(&view->space, &holes, err) < 0 ||
	    (!t->backend->written && t->backend->scan(t, p, view, err) < 0))
		return -err->code;
	for (size_t i = 0; i < view->vmas.n; i++)
		if (walk_vma(&l, view->vmas.at + i, t->backend->written, whole, err) < 0)
			return -err->code;
	return 0;
}

int tracker_final(struct tracker *t, const struct tracker_final *visitors, void *ctx, struct error *err)
{
	tracker_batch_begin(&t->batch, visitors->written, ctx);
	tracker_batch_begin(&t->populated, visitors->populated, ctx);
	tracker_batch_begin(&t->carried, visitors->carried, ctx);
	return tracker_each(t, finish, err);
}
