#include <fcntl.h>
#include <string.h>

#include "migrate/memory/tracker_state.h"

void tracker_batch_begin(struct tracker_batch *b, tracker_visit_fn visit, void *ctx)
{
	b->visit = visit;
	b->ctx = ctx;
	b->n = 0;
	b->broken = false;
}

int tracker_batch_flush(struct tracker_batch *b, struct error *err)
{
	size_t n = b->n;

	if (b->before && tracker_batch_flush(b->before, err) < 0)
		return -err->code;
	b->n = 0;
	if (n && b->visit(b->ctx, b->process, b->ranges, n, err) < 0) {
		b->broken = true;
		return -err->code;
	}
	return 0;
}

int tracker_batch_add(struct tracker_batch *b, uint64_t start, uint64_t end, struct error *err)
{
	struct tracker_range *last = b->n ? b->ranges + b->n - 1 : NULL;

	if (start >= end)
		return 0;
	if (last && last->end == start) {
		last->end = end;
		return 0;
	}
	if (b->n == TRACKER_BATCH && tracker_batch_flush(b, err) < 0)
		return -err->code;
	b->ranges[b->n++] = (struct tracker_range){ start, end };
	return 0;
}

struct pagescan_query tracker_populated(const struct tracker *t)
{
	/* Not PAGESCAN_FILE: anonymous memory has none of it, and asking for it
	 * makes the kernel look at each page itself, ten times slower. */
	return (struct pagescan_query){
		.mustnt = PAGESCAN_PFNZERO | t->guards,
		.any = PAGESCAN_PRESENT | PAGESCAN_SWAPPED,
	};
}

int tracker_scan_pages(struct tracker *t, const struct tracker_view *view,
		       const struct pagescan_query *query, uint64_t start, uint64_t end,
		       struct error *err)
{
	for (size_t n; start < end;) {
		if (pagescan_run(view->pagemap_fd, query, start, end, t->regions, TRACKER_BATCH,
				 &n, &start, err) < 0)
			return -err->code;
		for (size_t i = 0; i < n; i++)
			if (tracker_batch_add(&t->batch, t->regions[i].start, t->regions[i].end,
					      err) < 0)
				return -err->code;
	}
	return 0;
}

int tracker_view_read(struct tracker_view *view, struct error *err)
{
	struct address_space *space = &view->space;

	view->pagemap_fd = openat(space->dir_fd, "pagemap", O_RDONLY | O_CLOEXEC);
	if (view->pagemap_fd < 0 && (errno == ESRCH || errno == ENOENT))
		return 0;
	if (view->pagemap_fd < 0)
		return error_set(err, errno, "open pagemap: %s", strerror(errno));
	if (vmas_read(&view->vmas, space->dir_fd, err) < 0)
		return -err->code;
	return address_space_is_same(space, err);
}

void tracker_view_closep(struct tracker_view *view)
{
	address_space_closep(&view->space);
	vmas_free(&view->vmas);
	fd_close(&view->pagemap_fd);
}
