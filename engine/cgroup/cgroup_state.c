#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "engine/cgroup/cgroup_layout.h"

#define EVENTS_MAX 512
#define PROCS_MAX (64 << 20)

/* The kernel tells of changes of cgroup.events at most once in 10 ms and
 * delays what comes sooner (CGROUP_FILE_NOTIFY_MIN_INTV), so a freeze that
 * follows another event would wait for nothing: look again after this, then
 * ever more rarely. */
#define LOOK_AGAIN_NS 200000
#define LOOK_AGAIN_MAX_NS 12800000

/* The value of "key N" in cgroup.events. */
static int read_event(int events_fd, const char *key, bool *ret, struct error *err)
{
	char text[EVENTS_MAX];
	size_t len = strlen(key);
	ssize_t n = pread(events_fd, text, sizeof(text) - 1, 0);

	if (n < 0)
		return error_set(err, errno, "read cgroup.events: %s", strerror(errno));
	text[n] = '\0';
	for (const char *line = text; line; line = (line = strchr(line, '\n')) ? line + 1 : NULL)
		if (!strncmp(line, key, len) && line[len] == ' ') {
			*ret = line[len + 1] == '1';
			return 0;
		}
	return error_set(err, EOPNOTSUPP,
			 "cgroup.events says nothing of '%s': the kernel is too old", key);
}

static int open_events(const struct cgroup *cg, int *ret_fd, struct error *err)
{
	int fd = openat(cg->fd[CGROUP_V2], "cgroup.events", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return error_set(err, errno, "%s: open cgroup.events: %s", cg->path,
				 strerror(errno));
	*ret_fd = fd;
	return 0;
}

static int get_event(const struct cgroup *cg, const char *key, bool *ret, struct error *err)
{
	CLEANUP(fd_closep) int fd = -EBADF;

	if (open_events(cg, &fd, err) < 0)
		return -err->code;
	return read_event(fd, key, ret, err) < 0 ? error_wrap(err, "%s", cg->path) : 0;
}

static int wait_event(int events_fd, const char *key, bool wanted, uint64_t timeout_us,
		      struct error *err)
{
	uint64_t end_us = clock_us() + timeout_us;
	struct timespec pause = { .tv_nsec = LOOK_AGAIN_NS };

	for (;; pause.tv_nsec = pause.tv_nsec < LOOK_AGAIN_MAX_NS ? pause.tv_nsec * 2
								  : pause.tv_nsec) {
		struct pollfd p = { .fd = events_fd, .events = POLLPRI };
		bool late = clock_us() >= end_us; /* taken first: the last look is after the end */
		bool now = !wanted;

		if (read_event(events_fd, key, &now, err) < 0)
			return -err->code;
		if (now == wanted)
			return 0;
		if (late)
			return error_set(err, ETIMEDOUT, "no '%s %d' within %llu ms", key, wanted,
					 (unsigned long long)timeout_us / 1000);
		if (ppoll(&p, 1, &pause, NULL) < 0 && errno != EINTR)
			return error_set(err, errno, "poll cgroup.events: %s", strerror(errno));
	}
}

int cgroup_is_frozen(const struct cgroup *cg, bool *ret, struct error *err)
{
	return get_event(cg, "frozen", ret, err);
}

int cgroup_is_populated(const struct cgroup *cg, bool *ret, struct error *err)
{
	return get_event(cg, "populated", ret, err);
}

int cgroup_thaw(const struct cgroup *cg, struct error *err)
{
	if (fd_write_file_at(cg->fd[CGROUP_V2], "cgroup.freeze", "0", err) < 0)
		return error_wrap(err, "thaw %s", cg->path);
	return 0;
}

int cgroup_freeze(const struct cgroup *cg, uint64_t timeout_us, struct error *err)
{
	CLEANUP(fd_closep) int events = -EBADF;

	if (open_events(cg, &events, err) < 0)
		return error_wrap(err, "freeze");
	if (fd_write_file_at(cg->fd[CGROUP_V2], "cgroup.freeze", "1", err) < 0)
		return error_wrap(err, "freeze %s", cg->path);
	if (wait_event(events, "frozen", true, timeout_us, err) < 0) {
		struct error ignored;

		(void)cgroup_thaw(cg, &ignored);
		return error_wrap(err, "freeze %s", cg->path);
	}
	return 0;
}

struct pid_list {
	pid_t *pids;
	size_t n, size;
};

static int add_pid(struct pid_list *list, pid_t pid, struct error *err)
{
	if (list->n == list->size) {
		size_t size = list->size ? list->size * 2 : 64;
		pid_t *more = reallocarray(list->pids, size, sizeof(*more));

		if (!more)
			return error_set(err, ENOMEM, "out of memory");
		list->pids = more;
		list->size = size;
	}
	list->pids[list->n++] = pid;
	return 0;
}

static int add_pids_of(int dirfd, void *ctx, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	char *save = NULL;
	struct error why;
	int r = fd_read_file_at(dirfd, "cgroup.procs", PROCS_MAX, &text, NULL, &why);

	/* Threaded cgroups have none of their own; others vanish while we look. */
	if (r == -EOPNOTSUPP || r == -ENODEV || r == -ENOENT)
		return 0;
	if (r < 0) {
		*err = why;
		return r;
	}
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		long pid = strtol(line, NULL, 10);

		/* 0 is a process of a pid namespace that is not below ours. */
		if (pid > 0 && pid <= INT32_MAX && add_pid(ctx, (pid_t)pid, err) < 0)
			return -err->code;
	}
	return 0;
}

static bool lives_in(int dirfd, pid_t pid)
{
	struct pid_list list = { 0 };
	struct error ignored;
	bool found = false;

	(void)add_pids_of(dirfd, &list, &ignored);
	for (size_t i = 0; i < list.n; i++)
		found |= list.pids[i] == pid;
	free(list.pids);
	return found;
}

/* The pid may be another process's by now: signal what the descriptor names,
 * after a second look. Who has ended has left its cgroups before poll tells. */
static int kill_one(int dirfd, pid_t pid, uint64_t timeout_us, struct error *err)
{
	CLEANUP(fd_closep) int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	if (pidfd < 0 || !lives_in(dirfd, pid))
		return 0;
	(void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	if (poll(&p, 1, (int)(timeout_us / 1000)) == 0)
		return error_set(err, ETIMEDOUT, "process %d does not end within %llu ms", (int)pid,
				 (unsigned long long)timeout_us / 1000);
	return 0;
}

/* A helper that joined the v1 directories only, as CRIU does, outlives a
 * monitor that was killed, if only for moments. */
static int kill_in_v1(const struct cgroup *cg, uint64_t timeout_us, struct error *err)
{
	struct pid_list list = { 0 };
	int r = 0;

	for (int h = CGROUP_V2 + 1; r == 0 && h < CGROUP_HIERARCHY_MAX_; h++) {
		list.n = 0;
		if (cg->fd[h] >= 0)
			r = add_pids_of(cg->fd[h], &list, err);
		for (size_t i = 0; r == 0 && i < list.n; i++)
			r = kill_one(cg->fd[h], list.pids[i], timeout_us, err);
	}
	free(list.pids);
	return r;
}

/* -ENOENT and -ENODEV: somebody else has removed it, so nothing lives there. */
int cgroup_kill(const struct cgroup *cg, uint64_t timeout_us, struct error *err)
{
	CLEANUP(fd_closep) int events = -EBADF;
	struct error why;
	int r = open_events(cg, &events, &why);

	if (r == 0)
		r = fd_write_file_at(cg->fd[CGROUP_V2], "cgroup.kill", "1", &why);
	if (r == 0)
		r = wait_event(events, "populated", false, timeout_us, &why);
	if (r == -ENOENT || r == -ENODEV)
		r = 0;
	if (r == 0)
		r = kill_in_v1(cg, timeout_us, &why);
	if (r == 0)
		return 0;
	*err = why;
	return error_wrap(err, "kill %s", cg->path);
}

int cgroup_pids(const struct cgroup *cg, pid_t **ret, size_t *ret_n, struct error *err)
{
	struct pid_list list = { 0 };

	if (cgroup_layout_walk(cg->fd[CGROUP_V2], add_pids_of, &list, err) < 0) {
		free(list.pids);
		return error_wrap(err, "processes of %s", cg->path);
	}
	*ret = list.pids;
	*ret_n = list.n;
	return 0;
}
