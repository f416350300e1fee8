/* A monitor for a container that has lost its own. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "engine/monitor/monitor_state.h"

#define KILL_TIMEOUT_US 10000000

enum memory { MEMORY_COMPLETE, MEMORY_COMES, MEMORY_MISSING };

/* The mark is gone when all is there; who fills it in has it locked, and the kernel unlocks it
 * when he dies. */
static enum memory look_at_memory(const struct container *c)
{
	CLEANUP(fd_closep) int mark = openat(c->dir_fd, MONITOR_FILLING, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (mark < 0)
		return MEMORY_COMPLETE;
	if (flock(mark, LOCK_EX | LOCK_NB) < 0)
		return MEMORY_COMES;
	return fstat(mark, &st) == 0 && st.st_nlink == 0 ? MEMORY_COMPLETE : MEMORY_MISSING;
}

/* Our end of a pipe that some process of the container still has. What it has there may
 * change any moment: only what was looked at is opened. */
static int open_pipe_of(pid_t pid, uint64_t inode)
{
	char path[64];
	struct stat st;
	int found = -EBADF;

	for (int fd = 0; fd < 3 && found < 0; fd++) {
		CLEANUP(fd_closep) int place = -EBADF;

		(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
		place = open(path, O_PATH | O_CLOEXEC);
		if (place < 0 || fstat(place, &st) < 0 || !S_ISFIFO(st.st_mode) || st.st_ino != inode)
			continue;
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", place);
		found = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	}
	return found < 0 ? -EBADF : found;
}

/* Input ended with the monitor before, so only output is taken up again. */
static int find_pipes(struct monitor *m, struct error *err)
{
	CLEANUP(freep) pid_t *pids = NULL;
	size_t n = 0;

	memcpy(m->pipe_inodes, m->state.stdio, sizeof(m->pipe_inodes));
	if (cgroup_pids(m->setup.cgroup, &pids, &n, err) < 0)
		return -err->code;
	for (int i = 1; i < 3; i++) {
		if (m->pipe_inodes[i])
			m->pipes[i] = open_pipe_of(m->pid, m->pipe_inodes[i]);
		for (size_t k = 0; m->pipe_inodes[i] && m->pipes[i] < 0 && k < n; k++)
			m->pipes[i] = open_pipe_of(pids[k], m->pipe_inodes[i]);
	}
	return 0;
}

static int open_namespace(struct monitor *m, struct error *err)
{
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)m->pid);
	m->setup.netns_fd = open(path, O_RDONLY | O_CLOEXEC);
	return m->setup.netns_fd < 0 ? error_set(err, errno, "open %s: %s", path, strerror(errno)) : 0;
}

int monitor_take_over(struct monitor *m, struct error *err)
{
	struct monitor_setup *s = &m->setup;

	if (container_state(s->container, &m->state, err) < 0)
		return -err->code;
	m->pid = m->state.pid;
	m->pidfd = pidfd_open(m->pid, 0);
	if (m->pidfd < 0 || container_pid_start(m->pid) != m->state.pid_start)
		return error_set(err, ESRCH, "it has ended meanwhile");
	container_endpoint(s->container, &s->endpoint);
	if (container_cgroup(s->container, false, &s->cgroup, err) < 0 || open_namespace(m, err) < 0 ||
	    find_pipes(m, err) < 0 || output_open(s->container->dir_fd, &m->output, err) < 0 ||
	    monitor_listen(m, err) < 0)
		return -err->code;
	monitor_health_begin(m);
	container_state_stamp(&m->state, m->pid, getpid());
	m->state.status = CONTAINER_RUNNING;
	return container_state_write(s->container, &m->state, err);
}

void monitor_lose_init(struct monitor *m)
{
	m->done = true;
	m->wait_status = 0;
	m->state.exit_code = -1;
	if (!m->state.reason[0])
		(void)snprintf(m->state.reason, sizeof(m->state.reason),
			       "its monitor was killed once, so the exit status is not known");
}

/* Nobody can give it what is missing. */
static int end_incomplete(const struct container *c, struct container_state *st, struct error *err)
{
	if (container_clean(c, true, err) < 0)
		return -err->code;
	container_state_stamp(st, 0, 0);
	st->status = CONTAINER_EXITED;
	st->exit_code = -1;
	st->finished_us = clock_real_us();
	(void)snprintf(st->reason, sizeof(st->reason), "memory is missing: who filled it in was killed");
	return container_state_write(c, st, err);
}

static int adopt(struct container *c, struct error *err)
{
	const struct monitor_plan plan = { .adopt = true };
	CLEANUP(fd_closep) int control = -EBADF;
	struct monitor_message started;

	if (monitor_spawn(c, &plan, &control, err) < 0 || monitor_receive(control, &started, err) < 0)
		return -err->code;
	if (started.value[0])
		return error_set(err, (int)started.value[0], "%.*s", (int)started.len, started.data);
	return 0;
}

bool monitor_is_missing(const struct container *c, const struct container_state *st)
{
	return st->alive && !st->monitor_alive && (st->status == CONTAINER_RUNNING || st->status == CONTAINER_PAUSED) &&
	       faccessat(c->dir_fd, CONTAINER_MARK, F_OK, 0) < 0;
}

int monitor_adopt(struct container *c, struct error *err)
{
	struct container_state st;
	int r = 0;

	if (container_state(c, &st, err) < 0)
		return -err->code;
	if (!monitor_is_missing(c, &st) || st.abandoned)
		return 0;
	switch (look_at_memory(c)) {
	case MEMORY_COMES:
		return 0;
	case MEMORY_MISSING:
		r = end_incomplete(c, &st, err);
		break;
	case MEMORY_COMPLETE:
		r = adopt(c, err);
		break;
	}
	return r < 0 ? error_wrap(err, "container '%s': a new monitor", c->name) : 0;
}
