#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "criu-glue/lazy.h"
#include "engine/base/cleanup.h"
#include "engine/base/clock.h"
#include "engine/base/fault.h"
#include "engine/base/fd.h"
#include "engine/monitor/monitor.h"
#include "migrate/memory/filler.h"
#include "migrate/memory/filler_task.h"

/* Room for about 10,000 duplicates in the socket. */
#define SOCKET_BYTES (8 << 20)

#define EVENTS_MAX 32
#define BUSY_MS 1
#define QUIET_US 100000u
#define NO_MEMORY_US 30000000u

/* Everything of the child. */
struct work {
	struct filling filling;
	struct filler_task **tasks;
	size_t n_tasks, tasks_size;
	int epoll_fd;
	int listen_fd;			/* -EBADF after the connection */
	int criu_fd;			/* -EBADF before, and when CRIU is done */
	int uffds_fd;			/* duplicates go in here, */
	int kept_fd;			/* and lie here, where the parent holds it too */
	int report_fd;
	int folder_fd;
	bool restored;
	uint64_t faults;		/* answered until then */
	uint64_t began, progress;	/* us */
};

/* What goes to the parent: one of both. */
struct last_words {
	struct error error;		/* code 0: it went well */
	struct filler_report report;
};

/* The epoll mark of what is no task. */
static char listen_mark, criu_mark, parent_mark;

static int watch(struct work *w, int fd, void *mark, uint32_t events, struct error *err)
{
	struct epoll_event event = { .events = events, .data.ptr = mark };

	if (epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return error_set(err, errno, "epoll_ctl: %s", strerror(errno));
	return 0;
}

/* A full socket, or a parent that has gone, only means no duplicate. */
static int adopt(void *ctx, struct filler_task *task_consume, struct error *err)
{
	struct filler_task *task = task_consume;
	struct work *w = ctx;
	struct error ignored;

	if (w->n_tasks == w->tasks_size) {
		size_t size = w->tasks_size ? 2 * w->tasks_size : 64;
		struct filler_task **more = reallocarray(w->tasks, size, sizeof(struct filler_task *));

		if (!more) {
			filler_task_free(task, &w->filling);
			return error_set(err, ENOMEM, "no memory for %zu processes", size);
		}
		w->tasks = more;
		w->tasks_size = size;
	}
	w->tasks[w->n_tasks++] = task;
	(void)fd_send_msg(w->uffds_fd, "", 1, &task->uffd, 1, &ignored);
	return watch(w, task->uffd, task, EPOLLIN, err);
}

static int add_gap(void *ctx, uint32_t pid, uint64_t address, uint64_t n_pages, uint64_t slot,
		   struct error *err)
{
	struct filler_task *task = ctx;

	(void)pid;
	return gaps_append(&task->gaps, address, n_pages, slot, err);
}

static int hold(void *ctx, uint32_t pid, uint64_t address, uint64_t n_pages, uint64_t slot,
		struct error *err)
{
	(void)pid;
	(void)address;
	(void)err;
	filling_hold(ctx, slot, n_pages);
	return 0;
}

static int accept_criu(struct work *w, struct error *err)
{
	if (lazy_accept(w->listen_fd, &w->criu_fd, err) < 0)
		return -err->code;
	fd_close(&w->listen_fd);
	return watch(w, w->criu_fd, &criu_mark, EPOLLIN, err);
}

static int hear_criu(struct work *w, struct error *err)
{
	struct filler_task *task = NULL;
	enum lazy_event event;
	int uffd = -EBADF;
	pid_t pid = 0;

	if (lazy_receive(w->criu_fd, &event, &pid, &uffd, err) < 0)
		return -err->code;
	if (event == LAZY_HUNG_UP)
		return error_set(err, ECONNRESET, "CRIU has given up");
	if (event == LAZY_RESTORED) {
		fd_close(&w->criu_fd);
		if (fault_point("filler-restored", err) < 0)
			return -err->code;
		w->restored = true;
		w->progress = clock_us();
		w->filling.report.restored_us = w->progress - w->began;
		w->faults = w->filling.report.faults;
		return 0;
	}
	if (uffd < 0)
		return 0;
	if (fault_point("filler-task", err) < 0 || filler_task_new(pid, uffd, &task, err) < 0)
		return -err->code;
	if (store_walk_space(w->filling.store, (uint32_t)pid, add_gap, task, err) < 0) {
		gaps_clear(&task->gaps);
		filler_task_free(task, &w->filling);
		return -err->code;
	}
	return adopt(w, task, err);
}

static int serve(struct work *w, const struct epoll_event *event, struct error *err)
{
	if (event->data.ptr == &listen_mark)
		return accept_criu(w, err);
	if (event->data.ptr == &criu_mark)
		return hear_criu(w, err);
	if (event->data.ptr == &parent_mark) {
		(void)epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, w->report_fd, NULL);
		return w->restored ? 0 : error_set(err, EPIPE, "nobody wants the container");
	}
	return filler_task_serve(event->data.ptr, &w->filling, adopt, w, err);
}

/* Descriptors of processes that have ended; duplicates of them keep the epoll's
 * interest alive, so it is withdrawn. */
static void bury(struct work *w)
{
	size_t kept = 0;

	for (size_t i = 0; i < w->n_tasks; i++) {
		if (!w->tasks[i]->gone) {
			w->tasks[kept++] = w->tasks[i];
			continue;
		}
		(void)epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, w->tasks[i]->uffd, NULL);
		filler_task_free(w->tasks[i], &w->filling);
	}
	w->n_tasks = kept;
}

/* Until the tasks run again all processors are for CRIU and the decision. That
 * they run shows in a fault, sooner or later. */
static bool is_time(const struct work *w)
{
	return w->restored && (w->filling.report.faults > w->faults ||
			       clock_us() - w->began - w->filling.report.restored_us > QUIET_US);
}

/* One piece for the first task that takes one: those that CRIU restored come
 * before what they forked, which often executes or exits soon. Returns 1 when
 * something moved. */
static int advance(struct work *w, struct error *err)
{
	for (size_t i = 0; i < w->n_tasks; i++) {
		int r;

		if (filler_task_answer(w->tasks[i], &w->filling, err) < 0)
			return -err->code;
		r = is_time(w) ? filler_task_advance(w->tasks[i], &w->filling, err) : 0;
		if (r != 0)
			return r;
	}
	return 0;
}

static bool all_done(const struct work *w)
{
	for (size_t i = 0; i < w->n_tasks; i++)
		if (!filler_task_done(w->tasks[i]))
			return false;
	return w->restored;
}

static bool faults_wait(const struct work *w)
{
	for (size_t i = 0; i < w->n_tasks; i++)
		if (w->tasks[i]->n_faults)
			return true;
	return false;
}

static int stalled(const struct work *w, struct error *err)
{
	if (!w->restored || clock_us() - w->progress < NO_MEMORY_US)
		return 0;
	return error_set(err, ENOMEM, "the container's memory can't be filled: no room for it");
}

static int fill_all(struct work *w, struct error *err)
{
	int moved = 0;

	while (!all_done(w)) {
		struct epoll_event events[EVENTS_MAX];
		int wait_ms = moved ? 0 : w->restored || faults_wait(w) ? BUSY_MS : -1;
		int n = epoll_wait(w->epoll_fd, events, EVENTS_MAX, wait_ms);

		if (n < 0 && errno != EINTR)
			return error_set(err, errno, "epoll_wait: %s", strerror(errno));
		for (int i = 0; i < n; i++)
			if (serve(w, &events[i], err) < 0)
				return -err->code;
		moved = advance(w, err);
		if (moved < 0 || (!moved && stalled(w, err) < 0))
			return -err->code;
		if (moved)
			w->progress = clock_us();
		bury(w);
	}
	return 0;
}

/* Nothing is missing any more: with the last descriptors the kernel gives the
 * mappings back to their processes, and whoever waits goes on. */
static void let_go(struct work *w)
{
	struct error ignored;
	int uffd = -EBADF;
	char mark;

	for (size_t i = 0; i < w->n_tasks; i++)
		filler_task_free(w->tasks[i], &w->filling);
	w->n_tasks = 0;
	while (fd_recv_msg(w->kept_fd, &mark, sizeof(mark), &uffd, 1, &ignored) > 0)
		fd_close(&uffd);
}

/* The store's memory that no page is in. */
static void forget_unused(struct filling *f)
{
	for (uint64_t slot = 0; slot < store_slots(f->store); slot += HOLD_SLOTS)
		if (f->holds[slot / HOLD_SLOTS] == 0)
			store_forget(f->store, slot, HOLD_SLOTS);
}

/* Locked as long as this or the parent's copy is open. */
static int make_mark(int folder_fd, int *ret_mark, struct error *err)
{
	if (folder_fd < 0)
		return 0;
	*ret_mark = openat(folder_fd, MONITOR_FILLING, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (*ret_mark < 0 || flock(*ret_mark, LOCK_EX | LOCK_NB) < 0)
		return error_set(err, errno, "filler: " MONITOR_FILLING ": %s", strerror(errno));
	return 0;
}

static int work(struct work *w, struct error *err)
{
	struct rlimit limit;
	int r;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
	w->began = clock_us();
	w->filling.holds = calloc(store_slots(w->filling.store) / HOLD_SLOTS + 1, sizeof(uint32_t));
	w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (!w->filling.holds || w->epoll_fd < 0)
		return error_set(err, ENOMEM, "no memory for the filler");
	if (fault_point("filler-begin", err) < 0 || watch(w, w->listen_fd, &listen_mark, EPOLLIN, err) < 0 ||
	    watch(w, w->report_fd, &parent_mark, 0, err) < 0 ||
	    store_walk(w->filling.store, hold, &w->filling, err) < 0)
		return -err->code;
	forget_unused(&w->filling);
	r = fill_all(w, err);
	if (r == 0)
		r = fault_point("filler-filled", err);
	w->filling.report.filled_us = clock_us() - w->began - w->filling.report.restored_us;
	if (r == 0)
		let_go(w);
	if (r == 0 && w->folder_fd >= 0)
		(void)unlinkat(w->folder_fd, MONITOR_FILLING, 0);
	return r;
}

/* The child. Its descriptors close with it. */
__attribute__((noreturn)) static void child(int listen_fd, const struct store *s, int report_fd,
					    int uffds_fd, int kept_fd, int folder_fd, int mark_fd)
{
	const int keep[] = { listen_fd, report_fd, uffds_fd, kept_fd, store_fd(s), folder_fd, mark_fd };
	struct work w = { .filling.store = s, .epoll_fd = -EBADF, .listen_fd = listen_fd,
			  .criu_fd = -EBADF, .uffds_fd = uffds_fd, .kept_fd = kept_fd,
			  .report_fd = report_fd, .folder_fd = folder_fd };
	struct last_words words = { 0 };
	sigset_t none;

	fault_role("filler");
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)setsid();
	(void)prctl(PR_SET_NAME, "godwit-filler");
	if (fd_close_all_except(keep, sizeof(keep) / sizeof(keep[0]), &words.error) == 0)
		(void)work(&w, &words.error);
	fault_pass("filler-end");
	words.report = w.filling.report;
	(void)!write(report_fd, &words, sizeof(words));
	_exit(words.error.code ? EXIT_FAILURE : EXIT_SUCCESS);
}

int filler_start(int images_fd, int folder_fd, const struct store *s, struct filler *ret, struct error *err)
{
	CLEANUP(filler_stop) struct filler f = FILLER_EMPTY;
	CLEANUP(fd_closep) int listen_fd = -EBADF;
	CLEANUP(fd_closep) int report = -EBADF;
	CLEANUP(fd_closep) int uffds = -EBADF;
	CLEANUP(fd_closep) int mark = -EBADF;
	int pair[2];

	if (make_mark(folder_fd, &mark, err) < 0 || lazy_listen(images_fd, &listen_fd, err) < 0)
		return -err->code;
	if (pipe2(pair, O_CLOEXEC) < 0)
		return error_set(err, errno, "filler: pipe: %s", strerror(errno));
	f.report_fd = pair[0];
	report = pair[1];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return error_set(err, errno, "filler: socketpair: %s", strerror(errno));
	f.uffds_fd = pair[0];
	uffds = pair[1];
	(void)setsockopt(uffds, SOL_SOCKET, SO_SNDBUFFORCE, &(int){ SOCKET_BYTES }, sizeof(int));
	f.pid = fork();
	if (f.pid == 0)
		child(listen_fd, s, report, uffds, f.uffds_fd, folder_fd, mark);
	if (f.pid < 0) {
		f.pid = 0;
		return error_set(err, errno, "filler: fork: %s", strerror(errno));
	}
	f.pidfd = (int)syscall(SYS_pidfd_open, f.pid, 0);
	if (f.pidfd < 0)
		return error_set(err, errno, "filler: pidfd_open: %s", strerror(errno));
	*ret = f;
	f = (struct filler)FILLER_EMPTY;
	return 0;
}

static int reap(struct filler *f)
{
	int status = 0;

	while (f->pid > 0 && waitpid(f->pid, &status, 0) < 0 && errno == EINTR)
		;
	f->pid = 0;
	return status;
}

int filler_wait(struct filler *f, struct error *err)
{
	int status = reap(f);

	if (WIFSIGNALED(status))
		return error_set(err, EIO, "memory is missing: the filler was killed by signal %d", WTERMSIG(status));
	return status ? error_set(err, EIO, "memory is missing: the filler has failed") : 0;
}

int filler_finish(struct filler *f, struct filler_report *ret, struct error *err)
{
	struct last_words words = { 0 };
	int status = reap(f);
	ssize_t n = read(f->report_fd, &words, sizeof(words));

	if (WIFSIGNALED(status))
		return error_set(err, EIO, "memory is missing: the filler was killed by signal %d",
				 WTERMSIG(status));
	/* A monitor that has died meanwhile may have heard them. */
	if (n != sizeof(words) && status)
		return error_set(err, EIO, "memory is missing: the filler ended without a word");
	if (status && words.error.code) {
		*err = words.error;
		return error_wrap(err, "memory is missing");
	}
	if (ret)
		*ret = words.report;
	filler_stop(f);
	return 0;
}

void filler_stop(struct filler *f)
{
	if (f->pid > 0) {
		(void)kill(f->pid, SIGKILL);
		(void)reap(f);
	}
	fd_close(&f->pidfd);
	fd_close(&f->report_fd);
	fd_close(&f->uffds_fd);
}
