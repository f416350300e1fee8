/*
 * TRACKER_UFFD: a userfaultfd in WP_ASYNC mode belongs to the address space of
 * the process that made it, so each process makes its own, by injection, and
 * hands it to us. A mapping is registered when a scan says that it isn't; its
 * pages then come whole, since nobody knows what became of it before.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "engine/base/fd.h"
#include "migrate/helper.h"
#include "migrate/memory/inject.h"
#include "migrate/memory/tracker_state.h"

/* Names that Debian 12's headers lack: UFFD_FEATURE_WP_ASYNC brings
 * WP_UNPOPULATED along. */
#define FEATURE_WP_UNPOPULATED (UINT64_C(1) << 13)
#define FEATURE_WP_ASYNC (UINT64_C(1) << 15)
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

#define INJECT_TIMEOUT_US 50000
#define REGISTER_TRIES 8

static const uint64_t existing = PAGESCAN_PRESENT | PAGESCAN_SWAPPED;

static int set_up(int uffd, struct error *err)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = FEATURE_WP_ASYNC | FEATURE_WP_UNPOPULATED,
	};

	if (ioctl(uffd, UFFDIO_API, &api) < 0)
		return error_set(err, errno == EINVAL ? EOPNOTSUPP : errno,
				 "userfaultfd without WP_ASYNC (Linux 6.7 brought it): %s",
				 strerror(errno));
	return 0;
}

static int register_range(int uffd, uint64_t start, uint64_t end)
{
	struct uffdio_register reg = {
		.range = { start, end - start },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};

	return ioctl(uffd, UFFDIO_REGISTER, &reg) < 0 ? -errno : 0;
}

/* On a page of our own: written, armed, clean, written again. */
static int try_page(int uffd, int pagemap_fd, volatile char *page, struct error *err)
{
	struct pagescan_query query = { .must = PAGESCAN_WRITTEN, .any = existing,
					.mode = PAGESCAN_ARM };
	uint64_t start = (uintptr_t)page, end;
	struct pagescan_region region;

	if (register_range(uffd, start, start + PAGESCAN_PAGE) < 0)
		return error_set(err, EOPNOTSUPP, "register memory: %s", strerror(errno));
	for (size_t round = 0; round < 4; round++) {
		size_t n, expected = round != 2;

		if (round != 2)
			*page = (char)round;
		if (pagescan_run(pagemap_fd, &query, start, start + PAGESCAN_PAGE, &region, 1, &n,
				 &end, err) < 0)
			return error_set(err, EOPNOTSUPP, "PAGEMAP_SCAN doesn't work: %s",
					 strerror(err->code));
		if (n != expected)
			return error_set(err, EOPNOTSUPP, "PAGEMAP_SCAN misses writes");
	}
	return 0;
}

static int probe(struct error *err)
{
	CLEANUP(fd_closep) int uffd = -EBADF;
	CLEANUP(fd_closep) int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	void *page;
	int r;

#ifndef __x86_64__
	return error_set(err, EOPNOTSUPP, "injection is not there for this kind of processor");
#endif
	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (uffd < 0 || pagemap < 0)
		return error_set(err, EOPNOTSUPP, "%s: %s", uffd < 0 ? "userfaultfd" : "pagemap",
				 strerror(errno));
	if (set_up(uffd, err) < 0)
		return -err->code;
	page = mmap(NULL, PAGESCAN_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return error_set(err, ENOMEM, "out of memory for a page");
	r = try_page(uffd, pagemap, page, err);
	(void)munmap(page, PAGESCAN_PAGE);
	return r;
}

/* In the stopped process: makes the descriptor, gives it to us, closes it. */
static int take_uffd(struct inject *in, pid_t pid, int *ret_fd, struct error *err)
{
	CLEANUP(fd_closep) int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	CLEANUP(fd_closep) int fd = -EBADF;
	long remote, closed;

	if (pidfd < 0)
		return error_set(err, errno, "pidfd: %s", strerror(errno));
	if (inject_call(in, SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY, 0, 0,
			&remote, err) < 0)
		return -err->code;
	if (remote < 0)
		return error_set(err, (int)-remote, "userfaultfd in it: %s", strerror((int)-remote));
	fd = (int)syscall(SYS_pidfd_getfd, pidfd, (int)remote, 0);
	if (fd < 0)
		(void)error_set(err, errno, "take its userfaultfd: %s", strerror(errno));

	bool taken = fd >= 0;

	if (inject_call(in, SYS_close, remote, 0, 0, &closed, err) < 0)
		return -err->code;
	if (!taken)
		return -err->code;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int inject_uffd(pid_t pid, int *ret_fd, struct error *err)
{
	struct inject in;
	struct error ignored;
	int r;

	if (inject_begin(pid, INJECT_TIMEOUT_US, &in, err) < 0)
		return -err->code;
	r = take_uffd(&in, pid, ret_fd, err);
	if (inject_end(&in, r < 0 ? &ignored : err) < 0 && r == 0) {
		fd_close(ret_fd);
		return -err->code;
	}
	return r;
}

/* The tracer is a process of its own: when we are killed it still puts the
 * thread back as it was, and its end lets go whatever does not stop. */
static void inject_and_send(int sock, const void *what)
{
	CLEANUP(fd_closep) int fd = -EBADF;
	struct error err = { 0 }, ignored;

	(void)inject_uffd(*(const pid_t *)what, &fd, &err);
	(void)fd_send_msg(sock, &err, sizeof(err), &fd, fd >= 0, &ignored);
}

static int receive(int sock, int *ret_fd, struct error *err)
{
	CLEANUP(fd_closep) int fd = -EBADF;
	struct error its;
	ssize_t n = fd_recv_msg(sock, &its, sizeof(its), &fd, 1, err);

	if (n < 0)
		return (int)n;
	if (n != sizeof(its))
		return error_set(err, EIO, "the helper has died");
	if (its.code) {
		*err = its;
		return -its.code;
	}
	if (fd < 0)
		return error_set(err, EMFILE, "no descriptor is left for its userfaultfd");
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int fetch_uffd(pid_t pid, int *ret_fd, struct error *err)
{
	CLEANUP(helper_end) struct helper h = HELPER_EMPTY;

	if (helper_start(inject_and_send, &pid, &h, err) < 0)
		return -err->code;
	return receive(h.sock, ret_fd, err);
}

static int follow(struct tracker *t, struct tracked *p, struct error *err)
{
	CLEANUP(fd_closep) int uffd = -EBADF;

	(void)t;
	if (fetch_uffd(p->id.pid, &uffd, err) < 0 || set_up(uffd, err) < 0)
		return error_wrap(err, "follow process %d", p->id.pid);
	p->uffd = TAKE_FD(uffd);
	return 0;
}

static void forget(struct tracked *p)
{
	fd_close(&p->uffd);
}

static int clear_range(int uffd, uint64_t start, uint64_t end, struct error *err)
{
	struct uffdio_writeprotect wp = {
		.range = { start, end - start },
		.mode = UFFDIO_WRITEPROTECT_MODE_DONTWAKE,
	};

	if (ioctl(uffd, UFFDIO_WRITEPROTECT, &wp) < 0)
		return error_set(err, EPERM, "clear marks: %s", strerror(errno));
	return 0;
}

/* A mapping that mremap(2) merges with its neighbours makes the kernel forget
 * the registration of all of them, but not the marks. A write takes no mark away
 * then, and arming skips what has a mark: so old marks go first. */
static int clear_marks(struct tracker *t, const struct tracked *p, const struct tracker_view *view,
		       uint64_t start, uint64_t end, struct error *err)
{
	struct pagescan_query marked = {
		.mustnt = PAGESCAN_WRITTEN,
		.any = existing,
		.mode = PAGESCAN_CHECK,
	};

	for (size_t n; start < end;) {
		if (pagescan_run(view->pagemap_fd, &marked, start, end, t->regions, TRACKER_BATCH,
				 &n, &start, err) < 0)
			return -err->code;
		for (size_t i = 0; i < n; i++)
			if (clear_range(p->uffd, t->regions[i].start, t->regions[i].end, err) < 0)
				return -err->code;
	}
	return 0;
}

/* 1: registered, cleared and armed, and all of it is in the batch. 0: not now,
 * since the program's own userfaultfd is there, or the mapping changes under
 * our hands; what is registered by then may have old marks. */
static int arm_whole(struct tracker *t, struct tracked *p, const struct tracker_view *view,
		     uint64_t start, uint64_t end, struct error *err)
{
	struct pagescan_query query = tracker_populated(t);
	bool doubtful = p->doubtful;
	struct error why;

	query.mode = PAGESCAN_ARM;
	for (int i = 0; i < REGISTER_TRIES; i++) {
		int r = register_range(p->uffd, start, end);

		if (r < 0 && i == 0)
			return 0;
		p->doubtful = true;
		if (r < 0)
			continue;
		r = clear_marks(t, p, view, start, end, &why);
		if (r == 0)
			r = tracker_scan_pages(t, view, &query, start, end, &why);
		if (r == 0) {
			p->doubtful = doubtful;
			return 1;
		}
		if (t->batch.broken || r != -EPERM) {
			*err = why;
			return r;
		}
		if (tracker_batch_flush(&t->batch, err) < 0)
			return -err->code;
	}
	return 0;
}

/* Everything in [start, end), which may have changed in ways that no mark shows.
 * Registered first, then armed, then handed out: a write at any moment is in
 * what is read afterwards or leaves its page written. */
static int scan_whole(struct tracker *t, struct tracked *p, const struct tracker_view *view,
		      uint64_t start, uint64_t end, struct error *err)
{
	struct pagescan_query query = tracker_populated(t);
	int r = 0;

	if (p->followed && !t->frozen)
		r = arm_whole(t, p, view, start, end, err);
	if (r != 0)
		return r < 0 ? r : 0;
	return tracker_scan_pages(t, view, &query, start, end, err);
}

static int scan_vma(struct tracker *t, struct tracked *p, const struct tracker_view *view,
		    const struct vma *vma, struct error *err)
{
	struct pagescan_query query = tracker_populated(t);
	struct error why;
	int r;

	if (!p->followed || p->fresh)
		return scan_whole(t, p, view, vma->start, vma->end, err);
	query.must = PAGESCAN_WRITTEN;
	query.mode = t->frozen ? PAGESCAN_CHECK : PAGESCAN_ARM;
	r = tracker_scan_pages(t, view, &query, vma->start, vma->end, &why);
	if (r == -EPERM && !t->batch.broken) {
		if (tracker_batch_flush(&t->batch, err) < 0)
			return -err->code;
		return scan_whole(t, p, view, vma->start, vma->end, err);
	}
	if (r < 0)
		*err = why;
	return r;
}

static int scan(struct tracker *t, struct tracked *p, struct tracker_view *view, struct error *err)
{
	for (size_t i = 0; i < view->vmas.n; i++)
		if (scan_vma(t, p, view, view->vmas.at + i, err) < 0)
			return -err->code;
	return 0;
}

const struct tracker_backend tracker_uffd_backend = {
	.kind = TRACKER_UFFD,
	.written = PAGESCAN_WRITTEN,
	.probe = probe,
	.follow = follow,
	.scan = scan,
	.forget = forget,
};
