/*
 * What the page stream carries of a frozen container. CRIU puts a thread back on
 * its stack before anything serves page faults, so the pages around the stack
 * pointers stay with CRIU; so do guards, which aren't pages.
 */
#include <string.h>

#include "migrate/tracker_state.h"

/* Ranges in address order that are not carried, and how far we are in them. */
struct holes {
	struct tracker_range *at;
	size_t n, size, next;
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

/* Hands out [start, end) without the holes; calls come in address order. */
static int add_without(struct tracker_batch *b, struct holes *h, uint64_t start, uint64_t end,
		       struct error *err)
{
	while (h->next < h->n && h->at[h->next].end <= start)
		h->next++;
	for (size_t i = h->next; i < h->n && h->at[i].start < end; i++) {
		if (tracker_batch_add(b, start, h->at[i].start, err) < 0)
			return -err->code;
		start = h->at[i].end;
	}
	return tracker_batch_add(b, start, end, err);
}

/* Adds all that the query doesn't find, and of what it finds, what is swapped out.
 * So the kernel need not list page after page of what is simply there, which
 * takes ten times as long as passing it by. */
static int add_rest(struct tracker *t, const struct tracker_view *view, const struct vma *vma,
		    struct holes *h, const struct pagescan_query *query, struct error *err)
{
	uint64_t at = vma->start, from = at;

	for (size_t n; at < vma->end;) {
		if (pagescan_run(view->pagemap_fd, query, at, vma->end, t->regions, TRACKER_BATCH, &n,
				 &at, err) < 0)
			return -err->code;
		for (size_t i = 0; i < n; i++) {
			const struct pagescan_region *r = t->regions + i;

			if (r->categories == PAGESCAN_SWAPPED)
				continue;
			if (add_without(&t->batch, h, from, r->start, err) < 0)
				return -err->code;
			from = r->end;
		}
	}
	return add_without(&t->batch, h, from, vma->end, err);
}

static int add_carried(struct tracker *t, const struct tracker_view *view, struct holes *h,
		       struct error *err)
{
	struct pagescan_query guards = { .must = t->guards };

	for (size_t i = 0; i < view->vmas.n; i++) {
		const struct vma *vma = view->vmas.at + i;
		int r = t->guards ? add_rest(t, view, vma, h, &guards, err)
				  : add_without(&t->batch, h, vma->start, vma->end, err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int add_populated(struct tracker *t, const struct tracker_view *view, struct holes *h,
			 struct error *err)
{
	struct pagescan_query absent = {
		.any = PAGESCAN_PFNZERO | t->guards,
		.any_not = PAGESCAN_PRESENT,
		.tell = PAGESCAN_SWAPPED | PAGESCAN_PFNZERO | t->guards,
	};

	for (size_t i = 0; i < view->vmas.n; i++)
		if (add_rest(t, view, view->vmas.at + i, h, &absent, err) < 0)
			return -err->code;
	return 0;
}

typedef int (*add_fn)(struct tracker *t, const struct tracker_view *view, struct holes *h,
		      struct error *err);

static int finish_process(struct tracker *t, const struct tracked *p, add_fn add, struct error *err)
{
	CLEANUP(tracker_view_closep) struct tracker_view view = { .pagemap_fd = -EBADF,
								  .space = ADDRESS_SPACE_EMPTY };
	CLEANUP(free_holes) struct holes holes = { 0 };
	int r = address_space_open(p->id.pid, &view.space, err);

	if (r > 0)
		r = tracker_view_read(&view, err);
	if (r <= 0)
		return r;
	if (memcmp(&view.space.identity, &p->identity, sizeof(p->identity)))
		return error_set(err, EBUSY, "it runs another program since the last round");
	t->batch.process = &p->id;
	if (find_stacks(&view.space, &holes, err) < 0 || add(t, &view, &holes, err) < 0)
		return -err->code;
	return tracker_batch_flush(&t->batch, err);
}

static int finish(struct tracker *t, tracker_visit_fn visit, void *ctx, add_fn add,
		  struct error *err)
{
	if (cgroup_is_frozen(t->cgroup, &t->frozen, err) < 0)
		return -err->code;
	if (!t->frozen)
		return error_set(err, EBUSY, "the container is not frozen");
	t->batch.visit = visit;
	t->batch.ctx = ctx;
	t->batch.n = 0;
	for (size_t i = 0; i < t->n; i++)
		if (finish_process(t, t->tracked + i, add, err) < 0)
			return error_wrap(err, "memory of process %d", t->tracked[i].id.pid);
	return 0;
}

int tracker_final_carried(struct tracker *t, tracker_visit_fn visit, void *ctx, struct error *err)
{
	return finish(t, visit, ctx, add_carried, err);
}

int tracker_final_map(struct tracker *t, tracker_visit_fn visit, void *ctx, struct error *err)
{
	return finish(t, visit, ctx, add_populated, err);
}
