#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/cleanup.h"
#include "engine/base/clock.h"
#include "engine/cgroup/cgroup.h"

#define PAUSE_NS 50000
#define PAUSE_MAX_NS 1600000
#define STAT_MAX 4096
#define STAT_STATE 3		/* the first field after the command, proc_pid_stat(5) */
#define STAT_PENDING 31		/* of this thread alone; the next is what it blocks */

static bool is_fault(unsigned long mask)
{
	const int faults[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS };

	for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++)
		if (mask & 1ul << (faults[i] - 1))
			return true;
	return false;
}

/* One that has ended has no fault. */
static bool thread_faults(int task_fd, const char *tid)
{
	char path[64], text[STAT_MAX], *at, *end;
	CLEANUP(fd_closep) int fd = -EBADF;
	unsigned long pending;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "%s/stat", tid);
	fd = openat(task_fd, path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	at = strrchr(text, ')');
	for (int field = STAT_STATE; at && field <= STAT_PENDING; field++)
		at = strchr(at + 1, ' ');
	if (!at)
		return false;
	pending = strtoul(at, &end, 10);
	return is_fault(pending & ~strtoul(end, NULL, 10));
}

static pid_t faulting_thread(pid_t pid)
{
	char path[64];
	const struct dirent *e;
	CLEANUP(dir_closep) DIR *dir = NULL;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir && (e = readdir(dir)))
		if (e->d_name[0] != '.' && thread_faults(dirfd(dir), e->d_name))
			return (pid_t)strtol(e->d_name, NULL, 10);
	return 0;
}

static int find_fault(const struct cgroup *cg, pid_t *ret_tid, struct error *err)
{
	CLEANUP(freep) pid_t *pids = NULL;
	size_t n;
	pid_t tid = 0;

	if (cgroup_pids(cg, &pids, &n, err) < 0)
		return -err->code;
	for (size_t i = 0; i < n && !tid; i++)
		tid = faulting_thread(pids[i]);
	*ret_tid = tid;
	return 0;
}

static int try_freeze(const struct cgroup *cg, uint64_t timeout_us, pid_t *ret_tid, struct error *err)
{
	struct error ignored;

	if (cgroup_freeze(cg, timeout_us, err) < 0)
		return -err->code;
	if (find_fault(cg, ret_tid, err) == 0)
		return 0;
	(void)cgroup_thaw(cg, &ignored);
	return -err->code;
}

/* Who was let run takes its signal, if it gets a processor. */
int cgroup_freeze_to_dump(const struct cgroup *cg, uint64_t timeout_us, struct error *err)
{
	uint64_t end_us = clock_us() + timeout_us, now_us;
	struct timespec pause = { .tv_nsec = PAUSE_NS };
	bool frozen;
	pid_t tid = 0;

	if (cgroup_is_frozen(cg, &frozen, err) < 0)
		return -err->code;
	if (frozen) {
		if (find_fault(cg, &tid, err) < 0)
			return -err->code;
		return tid ? error_set(err, EBUSY, "thread %d was paused in the midst of a fault: "
				       "unpause it and try again", (int)tid) : 0;
	}
	while ((now_us = clock_us()) < end_us) {
		if (try_freeze(cg, end_us - now_us, &tid, err) < 0)
			return -err->code;
		if (!tid)
			return 0;
		if (cgroup_thaw(cg, err) < 0)
			return -err->code;
		(void)nanosleep(&pause, NULL);
		pause.tv_nsec = pause.tv_nsec < PAUSE_MAX_NS ? pause.tv_nsec * 2 : pause.tv_nsec;
	}
	return error_set(err, EBUSY, "freeze %s: thread %d faults all the time: try again", cgroup_path(cg), (int)tid);
}
