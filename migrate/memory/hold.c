#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "engine/base/cleanup.h"
#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "migrate/memory/hold.h"

#define EVENT_STOP 128
#define LOOK_AGAIN_NS 20000
#define PASSES_MAX 1000

struct wanted {
	pid_t pid;
	uint64_t timeout_us;
};

/* Signals that come first are delivered; the stop that was asked for follows. */
static int wait_thread(pid_t tid, uint64_t deadline_us, struct error *err)
{
	const struct timespec pause = { .tv_nsec = LOOK_AGAIN_NS };

	for (;;) {
		int status;
		pid_t r = waitpid(tid, &status, __WALL | WNOHANG);

		if (r < 0 || (r > 0 && !WIFSTOPPED(status)))
			return 0;	/* it has ended */
		if (r > 0 && status >> 16 == EVENT_STOP)
			return 0;
		if (r > 0)
			(void)ptrace(PTRACE_CONT, tid, NULL, (void *)(uintptr_t)WSTOPSIG(status));
		else if (clock_us() >= deadline_us)
			return error_set(err, ETIMEDOUT, "thread %d does not stop", tid);
		else
			(void)nanosleep(&pause, NULL);
	}
}

/* Ours already, or at its end: neither is to be stopped. */
static bool is_done(int tasks, const char *tid)
{
	char path[64], text[2048];
	CLEANUP(fd_closep) int fd = -EBADF;
	const char *at;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "%s/status", tid);
	fd = openat(tasks, path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return true;
	text[n] = '\0';
	at = strstr(text, "\nState:\t");
	if (at && strchr("ZX", at[strlen("\nState:\t")]))
		return true;
	at = strstr(text, "\nTracerPid:\t");
	return at && atoi(at + strlen("\nTracerPid:\t")) == getpid();
}

/* Stops one more thread: 1, or 0 when it is ours already or has ended. */
static int stop_thread(int tasks, const char *name, uint64_t deadline_us, struct error *err)
{
	pid_t tid = (pid_t)atoi(name);

	if (tid <= 0 || is_done(tasks, name))
		return 0;
	if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) < 0)
		return is_done(tasks, name)
			       ? 0 : error_set(err, errno, "trace: %s", strerror(errno));
	if (ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) < 0 && errno != ESRCH)
		return error_set(err, errno, "stop: %s", strerror(errno));
	return wait_thread(tid, deadline_us, err) < 0 ? -err->code : 1;
}

/* One pass over the threads; *ret_new: how many were running. */
static int stop_pass(int tasks, uint64_t deadline_us, size_t *ret_new, struct error *err)
{
	char buf[4096] __attribute__((aligned(8)));
	ssize_t n;

	*ret_new = 0;
	if (lseek(tasks, 0, SEEK_SET) < 0)
		return error_set(err, errno, "list threads: %s", strerror(errno));
	while ((n = getdents64(tasks, buf, sizeof(buf))) > 0)
		for (ssize_t at = 0; at < n;) {
			const struct dirent64 *e = (const void *)(buf + at);
			int r = stop_thread(tasks, e->d_name, deadline_us, err);

			if (r < 0)
				return r;
			*ret_new += (size_t)r;
			at += e->d_reclen;
		}
	return n < 0 ? error_set(err, errno, "list threads: %s", strerror(errno)) : 0;
}

/* Until a pass finds none that runs: then nobody is left to start another. */
static int stop_all(pid_t pid, uint64_t timeout_us, struct error *err)
{
	uint64_t deadline_us = clock_us() + timeout_us;
	CLEANUP(fd_closep) int tasks = -EBADF;
	char path[64];
	size_t fresh;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (tasks < 0)
		return error_set(err, errno, "open %s: %s", path, strerror(errno));
	for (int i = 0; i < PASSES_MAX; i++) {
		if (stop_pass(tasks, deadline_us, &fresh, err) < 0)
			return -err->code;
		if (!fresh)
			return 0;
	}
	return error_set(err, EBUSY, "it starts threads faster than they can be stopped");
}

/* Its end, whenever it comes, lets everything go. */
static void stop_and_wait(int sock, const void *what)
{
	const struct wanted *w = what;
	struct error err = { 0 }, ignored;
	char byte;

	if (stop_all(w->pid, w->timeout_us, &err) == 0)
		err.code = 0;
	if (fd_send_msg(sock, &err, sizeof(err), NULL, 0, &ignored) == 0)
		(void)!read(sock, &byte, 1);
}

int hold_begin(pid_t pid, uint64_t timeout_us, struct helper *ret, struct error *err)
{
	CLEANUP(helper_end) struct helper h = HELPER_EMPTY;
	struct wanted wanted = { .pid = pid, .timeout_us = timeout_us };
	struct error what;
	ssize_t n;

	if (helper_start(stop_and_wait, &wanted, &h, err) < 0)
		return -err->code;
	n = fd_recv_msg(h.sock, &what, sizeof(what), NULL, 0, err);
	if (n < 0)
		return (int)n;
	if (n != sizeof(what))
		return error_set(err, EIO, "the helper has died");
	if (what.code) {
		*err = what;
		return error_wrap(err, "hold process %d", pid);
	}
	*ret = h;
	h = (struct helper)HELPER_EMPTY;
	return 0;
}
