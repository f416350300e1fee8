/*
 * TRACKER_SOFT_DIRTY: reading the bits and clearing them are two steps, and
 * clearing is for the whole address space. So all threads of the process are
 * stopped in between, by a helper whose end lets them go, whatever happens; and
 * what was not carried in the round before comes whole, as its bits were cleared
 * unseen.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "engine/base/fd.h"
#include "migrate/memory/hold.h"
#include "migrate/memory/tracker_state.h"

#define HOLD_TIMEOUT_US 50000

static int clear_refs(int dir_fd, struct error *err)
{
	return fd_write_file_at(dir_fd, "clear_refs", "4", err);
}

static int page_is_dirty(int pagemap, const volatile char *page, bool *ret, struct error *err)
{
	uint64_t entry = 0;

	if (pread(pagemap, &entry, sizeof(entry),
		  (off_t)((uintptr_t)page / PAGESCAN_PAGE * sizeof(entry))) != sizeof(entry))
		return error_set(err, EOPNOTSUPP, "read pagemap: %s", strerror(errno));
	*ret = entry >> 55 & 1;
	return 0;
}

/* On a page of our own: written, cleared, written again. */
static int try_page(int self, int pagemap, volatile char *page, struct error *err)
{
	static const bool expected[] = { true, false, true };

	for (size_t i = 0; i < 3; i++) {
		bool dirty = false;

		if (i == 1 && clear_refs(self, err) < 0)
			return -err->code;
		if (i != 1)
			*page = (char)i;
		if (page_is_dirty(pagemap, page, &dirty, err) < 0)
			return -err->code;
		if (dirty != expected[i])
			return error_set(err, EOPNOTSUPP, "this kernel has no soft-dirty bits");
	}
	return 0;
}

static int probe(struct error *err)
{
	CLEANUP(fd_closep) int self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLEANUP(fd_closep) int pagemap = openat(self, "pagemap", O_RDONLY | O_CLOEXEC);
	void *page = mmap(NULL, PAGESCAN_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	int r;

	if (page == MAP_FAILED)
		return error_set(err, ENOMEM, "out of memory for a page");
	r = try_page(self, pagemap, page, err);
	(void)munmap(page, PAGESCAN_PAGE);
	return r;
}

static int follow(struct tracker *t, struct tracked *p, struct error *err)
{
	(void)t, (void)p, (void)err;
	return 0;
}

static void forget(struct tracked *p)
{
	vmas_free(&p->carried);
}

/* Ranges that wait until the process runs again: a visitor may take its time. */
struct ranges {
	struct tracker_range *at;
	size_t n, size;
};

static void free_ranges(struct ranges *list)
{
	free(list->at);
}

static int add_range(struct ranges *list, uint64_t start, uint64_t end, struct error *err)
{
	if (list->n == list->size) {
		size_t size = list->size ? list->size * 2 : 1024;
		struct tracker_range *more = reallocarray(list->at, size, sizeof(*more));

		if (!more)
			return error_set(err, ENOMEM, "out of memory for %zu ranges", size);
		list->at = more;
		list->size = size;
	}
	list->at[list->n++] = (struct tracker_range){ start, end };
	return 0;
}

static int look(struct tracker *t, const struct tracker_view *view, bool dirty, uint64_t start,
		uint64_t end, struct ranges *list, struct error *err)
{
	struct pagescan_query query = tracker_populated(t);

	query.must = dirty ? PAGESCAN_SOFT_DIRTY : 0;
	for (size_t n; start < end;) {
		if (pagescan_run(view->pagemap_fd, &query, start, end, t->regions, TRACKER_BATCH, &n,
				 &start, err) < 0)
			return -err->code;
		for (size_t i = 0; i < n; i++)
			if (add_range(list, t->regions[i].start, t->regions[i].end, err) < 0)
				return -err->code;
	}
	return 0;
}

/* Where [start, end) was carried before, what is dirty; elsewhere everything. */
static int look_at_vma(struct tracker *t, const struct tracked *p, const struct tracker_view *view,
		       const struct vma *vma, struct ranges *list, struct error *err)
{
	uint64_t at = vma->start;

	for (size_t i = 0; i < p->carried.n && at < vma->end; i++) {
		const struct vma *old = p->carried.at + i;
		uint64_t from = old->start > at ? old->start : at;
		uint64_t to = old->end < vma->end ? old->end : vma->end;

		if (from >= to)
			continue;
		if (look(t, view, false, at, from, list, err) < 0 ||
		    look(t, view, true, from, to, list, err) < 0)
			return -err->code;
		at = to;
	}
	return look(t, view, false, at, vma->end, list, err);
}

static int look_at_all(struct tracker *t, const struct tracked *p, const struct tracker_view *view,
		       struct ranges *list, struct error *err)
{
	for (size_t i = 0; i < view->vmas.n; i++)
		if (look_at_vma(t, p, view, view->vmas.at + i, list, err) < 0)
			return -err->code;
	return 0;
}

/* Its mappings are read again, since they stand still only now. */
static int look_and_clear(struct tracker *t, struct tracked *p, struct tracker_view *view,
			  struct ranges *list, struct error *err)
{
	struct address_space *space = &view->space;
	int r;

	if (vmas_read(&view->vmas, space->dir_fd, err) < 0)
		return -err->code;
	r = address_space_is_same(space, err);
	if (r <= 0)
		return r < 0 ? r : error_set(err, ESRCH, "it has ended");
	if (look_at_all(t, p, view, list, err) < 0 || clear_refs(space->dir_fd, err) < 0)
		return -err->code;

	struct vmas before = p->carried;

	p->carried = view->vmas;
	view->vmas = before;
	return 0;
}

/* A process that can't be held keeps its bits, so nothing of it is lost. */
static int scan(struct tracker *t, struct tracked *p, struct tracker_view *view, struct error *err)
{
	CLEANUP(free_ranges) struct ranges list = { 0 };
	CLEANUP(helper_end) struct helper hold = HELPER_EMPTY;
	struct error why;
	int r;

	if (!t->frozen && p->followed && hold_begin(p->id.pid, HOLD_TIMEOUT_US, &hold, &why) == 0)
		r = look_and_clear(t, p, view, &list, err);
	else
		r = look_at_all(t, p, view, &list, err);
	helper_end(&hold);
	for (size_t i = 0; r == 0 && i < list.n; i++)
		r = tracker_batch_add(&t->batch, list.at[i].start, list.at[i].end, err);
	return r;
}

const struct tracker_backend tracker_softdirty_backend = {
	.kind = TRACKER_SOFT_DIRTY,
	.probe = probe,
	.follow = follow,
	.scan = scan,
	.forget = forget,
};
