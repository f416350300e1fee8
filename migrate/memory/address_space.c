#include <fcntl.h>
#include <string.h>

#include "engine/base/cleanup.h"
#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "migrate/memory/address_space.h"

#define FILE_MAX (1u << 20)
#define THREADS_MAX (1u << 22)
#define LOOK_AGAIN_NS 50000
#define RUNNING_MAX_US 500000

static bool is_gone(int r)
{
	return r == -ESRCH || r == -ENOENT;
}

/* 1 with *ret, 0 when there is no such address space (any more). */
static int read_identity(int dir_fd, struct identity *ret, struct error *err)
{
	static const int wanted[IDENTITY_FIELDS] = { 22, 26, 28, 47 };
	CLEANUP(freep) char *text = NULL;
	struct identity id = { 0 };
	struct error why;
	int r = fd_read_file_at(dir_fd, "stat", FILE_MAX, &text, NULL, &why);
	char *at = r < 0 ? NULL : strrchr(text, ')');	/* the name may hold anything */
	char *save = NULL;
	int field = 3, found = 0;

	if (is_gone(r))
		return 0;
	if (r < 0) {
		*err = why;
		return r;
	}
	at = at ? strtok_r(at + 1, " \n", &save) : NULL;
	if (!at || strchr("ZXx", *at))
		return at ? 0 : error_set(err, EPROTO, "stat has no state");
	for (; at && found < IDENTITY_FIELDS; at = strtok_r(NULL, " \n", &save), field++)
		if (field == wanted[found])
			id.field[found++] = strtoull(at, NULL, 10);
	if (found < IDENTITY_FIELDS)
		return error_set(err, EPROTO, "stat is too short");
	*ret = id;
	return id.field[2] ? 1 : 0;	/* a kernel thread has no stack */
}

static const char *value_of(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at ? at + strlen(key) : NULL;
}

/* NSpid has the pid in each namespace, the innermost last. */
static int read_status(struct address_space *as, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	const char *pids;
	int r = fd_read_file_at(as->dir_fd, "status", FILE_MAX, &text, NULL, err);
	char *end;

	if (r < 0)
		return r;
	pids = value_of(text, "\nNSpid:");
	if (!pids)
		return error_set(err, EPROTO, "status has no NSpid");
	for (;; pids = end) {
		long pid = strtol(pids, &end, 10);

		if (end == pids || *pids == '\n')
			break;
		as->ns_pid = (pid_t)pid;
		if (*end == '\n')
			break;
	}
	return 0;
}

int address_space_open(pid_t pid, struct address_space *ret, struct error *err)
{
	CLEANUP(address_space_closep) struct address_space as = ADDRESS_SPACE_EMPTY;
	struct error why;
	char path[32];
	int r;

	as.pid = as.ns_pid = pid;
	(void)snprintf(path, sizeof(path), "/proc/%d", pid);
	as.dir_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (as.dir_fd < 0 && is_gone(-errno))
		return 0;
	if (as.dir_fd < 0)
		return error_set(err, errno, "open %s: %s", path, strerror(errno));
	r = read_identity(as.dir_fd, &as.identity, &why);
	if (r > 0)
		r = read_status(&as, &why) < 0 ? -why.code : 1;
	if (is_gone(r))
		return 0;
	if (r < 0) {
		*err = why;
		return error_wrap(err, "process %d", pid);
	}
	if (r == 0)
		return 0;
	*ret = as;
	as.dir_fd = -EBADF;
	return 1;
}

void address_space_closep(struct address_space *as)
{
	fd_close(&as->dir_fd);
}

int address_space_is_same(const struct address_space *as, struct error *err)
{
	struct identity now;
	int r = read_identity(as->dir_fd, &now, err);

	if (r <= 0)
		return r;
	return !memcmp(&now, &as->identity, sizeof(now));
}

/* A frozen thread that is woken for something looks, and sleeps on: for so long
 * it is taken as running, and nothing tells of the end of that. */
static int read_syscall(int task_fd, const char *path, char **ret, struct error *err)
{
	const struct timespec pause = { .tv_nsec = LOOK_AGAIN_NS };

	for (uint64_t end_us = clock_us() + RUNNING_MAX_US;; (void)nanosleep(&pause, NULL)) {
		CLEANUP(freep) char *text = NULL;
		bool late = clock_us() >= end_us;

		if (fd_read_file_at(task_fd, path, FILE_MAX, &text, NULL, err) < 0)
			return -err->code;
		if (late || strncmp(text, "running", strlen("running")) != 0) {
			*ret = TAKE_PTR(text);
			return 0;
		}
	}
}

/* "NUMBER ARGUMENTS... SP PC", or "-1 SP PC" outside of a system call. */
static int read_stack(int task_fd, const char *tid, uint64_t *ret, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	char path[300];
	char *pc, *sp;

	(void)snprintf(path, sizeof(path), "%s/syscall", tid);
	if (read_syscall(task_fd, path, &text, err) < 0)
		return -err->code;
	pc = strrchr(text, ' ');
	if (!pc)
		return error_set(err, EBUSY, "thread %s runs: freeze the container first", tid);
	*pc = '\0';
	sp = strrchr(text, ' ');
	*ret = sp ? strtoull(sp, NULL, 16) : 0;
	return *ret ? 0 : error_set(err, EPROTO, "thread %s has no stack pointer", tid);
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static int read_stacks(DIR *tasks, uint64_t **list, size_t *n, struct error *err)
{
	size_t size = 0;

	for (struct dirent *e; (e = readdir(tasks));) {
		struct error why;
		int r;

		if (*e->d_name == '.')
			continue;
		if (*n == size) {
			uint64_t *more;

			size = size ? size * 2 : 64;
			more = size <= THREADS_MAX ? reallocarray(*list, size, sizeof(**list)) : NULL;
			if (!more)
				return error_set(err, ENOMEM, "out of memory for %zu threads", size);
			*list = more;
		}
		r = read_stack(dirfd(tasks), e->d_name, *list + *n, &why);
		if (r == 0)
			(*n)++;
		else if (!is_gone(r)) {
			*err = why;
			return r;
		}
	}
	return 0;
}

int address_space_stacks(const struct address_space *as, uint64_t **ret, size_t *ret_n,
			 struct error *err)
{
	CLEANUP(fd_closep) int fd = openat(as->dir_fd, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP(dir_closep) DIR *tasks = fd < 0 ? NULL : fdopendir(fd);
	CLEANUP(freep) uint64_t *list = NULL;
	size_t n = 0;

	if (!tasks)
		return error_set(err, errno, "threads of process %d: %s", as->pid, strerror(errno));
	(void)TAKE_FD(fd);
	if (read_stacks(tasks, &list, &n, err) < 0)
		return error_wrap(err, "process %d", as->pid);
	if (n)
		qsort(list, n, sizeof(*list), compare);
	*ret = TAKE_PTR(list);
	*ret_n = n;
	return 0;
}
