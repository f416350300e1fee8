#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <linux/userfaultfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/base/cleanup.h"
#include "migrate/memory/filler_task.h"
#include "migrate/memory/uffd.h"

#define PIECE_PAGES FILLING_PAGES
#define FAULT_PAGES 8u			/* around a fault, upwards */
#define EVENTS_MAX 64u

#define PAGE_MASK (~(uint64_t)(STORE_PAGE - 1))

void filling_hold(struct filling *f, uint64_t slot, uint64_t n_pages)
{
	while (n_pages > 0) {
		uint64_t some = HOLD_SLOTS - slot % HOLD_SLOTS;

		some = some < n_pages ? some : n_pages;
		f->holds[slot / HOLD_SLOTS] += (uint32_t)some;
		slot += some;
		n_pages -= some;
	}
}

static void filling_release(void *filling, uint64_t slot, uint64_t n_pages)
{
	struct filling *f = filling;

	while (n_pages > 0) {
		uint64_t some = HOLD_SLOTS - slot % HOLD_SLOTS, piece = slot / HOLD_SLOTS;

		some = some < n_pages ? some : n_pages;
		f->holds[piece] -= (uint32_t)some;
		if (f->holds[piece] == 0)
			store_forget(f->store, piece * HOLD_SLOTS, HOLD_SLOTS);
		slot += some;
		n_pages -= some;
	}
}

int filler_task_new(pid_t pid, int uffd_consume, struct filler_task **ret, struct error *err)
{
	CLEANUP(fd_closep) int uffd = uffd_consume;
	struct filler_task *task = calloc(1, sizeof(*task));
	int flags = fcntl(uffd, F_GETFL);

	if (!task || flags < 0 || fcntl(uffd, F_SETFL, flags | O_NONBLOCK) < 0) {
		free(task);
		return error_set(err, task ? errno : ENOMEM, "take the userfaultfd of process %d",
				 (int)pid);
	}
	task->pid = pid;
	task->uffd = TAKE_FD(uffd);
	*ret = task;
	return 0;
}

static void forget_gaps(struct filler_task *task, struct filling *filling)
{
	for (size_t i = task->gaps.first; i < task->gaps.n; i++)
		filling_release(filling, task->gaps.list[i].slot, task->gaps.list[i].n_pages);
	gaps_clear(&task->gaps);
}

void filler_task_free(struct filler_task *task, struct filling *filling)
{
	if (!task)
		return;
	forget_gaps(task, filling);
	fd_close(&task->uffd);
	free(task->faults);
	free(task);
}

static void note_gone(struct filler_task *task, struct filling *filling)
{
	task->gone = true;
	task->n_faults = 0;
	forget_gaps(task, filling);
}

static int queue_fault(struct filler_task *task, uint64_t address, struct error *err)
{
	if (task->n_faults == task->faults_size) {
		size_t size = task->faults_size ? 2 * task->faults_size : EVENTS_MAX;
		uint64_t *more = reallocarray(task->faults, size, sizeof(*more));

		if (!more)
			return error_set(err, ENOMEM, "no memory for %zu page faults", size);
		task->faults = more;
		task->faults_size = size;
	}
	task->faults[task->n_faults++] = address & PAGE_MASK;
	return 0;
}

static int follow_fork(struct filler_task *task, struct filling *filling, int uffd_consume,
		       filler_adopt_fn adopt, void *ctx, struct error *err)
{
	struct filler_task *child = NULL;

	if (filler_task_new(task->pid, uffd_consume, &child, err) < 0)
		return -err->code;
	child->forked = true;
	if (gaps_copy(&task->gaps, &child->gaps, err) < 0) {
		filler_task_free(child, filling);
		return -err->code;
	}
	for (size_t i = child->gaps.first; i < child->gaps.n; i++)
		filling_hold(filling, child->gaps.list[i].slot, child->gaps.list[i].n_pages);
	filling->report.forks++;
	return adopt(ctx, child, err);
}

static int follow(struct filler_task *task, struct filling *filling, const struct uffd_msg *m,
		  filler_adopt_fn adopt, void *ctx, struct error *err)
{
	switch (m->event) {
	case UFFD_EVENT_PAGEFAULT:
		return queue_fault(task, m->arg.pagefault.address, err);
	case UFFD_EVENT_FORK:
		return follow_fork(task, filling, (int)m->arg.fork.ufd, adopt, ctx, err);
	case UFFD_EVENT_REMAP:
		return gaps_move(&task->gaps, m->arg.remap.from, m->arg.remap.to,
				 m->arg.remap.len, filling_release, filling, err);
	case UFFD_EVENT_REMOVE:
	case UFFD_EVENT_UNMAP:
		return gaps_remove(&task->gaps, m->arg.remove.start, m->arg.remove.end,
				   filling_release, filling, err);
	default:
		return error_set(err, EPROTO, "userfaultfd of process %d: unknown event %u",
				 (int)task->pid, m->event);
	}
}

int filler_task_serve(struct filler_task *task, struct filling *filling, filler_adopt_fn adopt,
		      void *ctx, struct error *err)
{
	struct uffd_msg messages[EVENTS_MAX];
	ssize_t n = read(task->uffd, messages, sizeof(messages));

	/* without room for a child's descriptor the fork waits */
	if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == EMFILE || errno == ENFILE))
		return 0;
	if (n < 0)
		return error_set(err, errno, "userfaultfd of process %d: %s", (int)task->pid,
				 strerror(errno));
	for (size_t i = 0; i < (size_t)n / sizeof(messages[0]); i++)
		if (follow(task, filling, &messages[i], adopt, ctx, err) < 0)
			return -err->code;
	return filler_task_answer(task, filling, err);
}

/* Takes len bytes at address out of the gaps. */
static int close_gap(struct filler_task *task, struct filling *filling, uint64_t address,
		     size_t len, struct error *err)
{
	return gaps_remove(&task->gaps, address, address + len, filling_release, filling, err);
}

/* Fills n pages of a gap from address on, or less where a mapping ends. */
static int fill(struct filler_task *task, struct filling *filling, uint64_t address,
		uint64_t slot, uint64_t n, enum uffd_result *ret, struct error *err)
{
	const void *data;
	size_t len = 0;

	if (store_read(filling->store, slot, n, filling->room, &data, err) < 0)
		return -err->code;
	if (data != filling->room)
		(void)madvise((void *)(uintptr_t)data, n * STORE_PAGE, MADV_POPULATE_READ);
	for (;; n /= 2) {
		if (uffd_copy(task->uffd, address, data, n * STORE_PAGE, ret, &len, err) < 0)
			return error_wrap(err, "process %d", (int)task->pid);
		if (*ret != UFFD_NO_MAPPING || n == 1)
			break;
	}
	if (*ret == UFFD_FILLED) {
		filling->report.pages += len / STORE_PAGE;
		return close_gap(task, filling, address, len, err);
	}
	if (*ret == UFFD_GONE)
		note_gone(task, filling);
	/* A fork leaves out what is MADV_DONTFORK; whatever else goes is told. */
	if (*ret == UFFD_NO_MAPPING && !task->forked)
		return error_set(err, EIO, "process %d: nothing takes the page at 0x%llx",
				 (int)task->pid, (unsigned long long)address);
	if (*ret == UFFD_NO_MAPPING || *ret == UFFD_PRESENT)
		return close_gap(task, filling, address, STORE_PAGE, err);
	return 0;
}

/* *ret_later: it must wait. */
static int answer(struct filler_task *task, struct filling *filling, uint64_t address,
		  bool *ret_later, struct error *err)
{
	const struct gap *gap = gaps_find(&task->gaps, address);
	enum uffd_result result = UFFD_GONE;
	int r;

	if (gap) {
		uint64_t skip = (address - gap->address) / STORE_PAGE;
		uint64_t left = gap->n_pages - skip;

		r = fill(task, filling, address, gap->slot + skip,
			 left < FAULT_PAGES ? left : FAULT_PAGES, &result, err);
	} else {
		r = uffd_zero(task->uffd, address, &result, err);
		if (r == 0 && result == UFFD_GONE)
			note_gone(task, filling);
	}
	if (r == 0 && (result == UFFD_PRESENT || result == UFFD_NO_MAPPING))
		uffd_wake(task->uffd, address);
	*ret_later = result == UFFD_BUSY || result == UFFD_NO_MEMORY;
	if (!*ret_later)
		filling->report.faults++;
	return r;
}

int filler_task_answer(struct filler_task *task, struct filling *filling, struct error *err)
{
	size_t kept = 0, n = task->n_faults;

	for (size_t i = 0; i < n && !task->gone; i++) {
		uint64_t address = task->faults[i];
		bool later;

		if (answer(task, filling, address, &later, err) < 0)
			return -err->code;
		if (later)
			task->faults[kept++] = address;
	}
	task->n_faults = task->gone ? 0 : kept;
	return 0;
}

int filler_task_advance(struct filler_task *task, struct filling *filling, struct error *err)
{
	const struct gap *gap = gaps_first(&task->gaps);
	enum uffd_result result;
	uint64_t n;

	if (!gap)
		return 0;
	n = gap->n_pages < PIECE_PAGES ? gap->n_pages : PIECE_PAGES;
	if (fill(task, filling, gap->address, gap->slot, n, &result, err) < 0)
		return -err->code;
	return result != UFFD_BUSY && result != UFFD_NO_MEMORY;
}
