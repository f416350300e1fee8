#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/base/fd.h"
#include "migrate/network/socket_walk.h"

struct found {
	uint64_t inode;
	pid_t pid;			/* as we see it */
	int fd;
};

struct all_found {
	struct found *list;
	size_t n, room;
};

static void all_found_closep(struct all_found *a)
{
	free(a->list);
}

int socket_option(int socket_fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(socket_fd, level, name, &value, &len) < 0 ? -1 : value;
}

/* proc_pid_status(5): its numbers from the outermost namespace to its own. */
static pid_t inner_pid(pid_t pid)
{
	CLEANUP(freep) char *text = NULL;
	char path[32], *at, *last;
	struct error ignored;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	if (fd_read_file_at(-EBADF, path, 16384, &text, NULL, &ignored) < 0)
		return -1;
	at = strstr(text, "\nNSpid:");
	if (!at)
		return -1;
	at[1 + strcspn(at + 1, "\n")] = '\0';
	last = strrchr(at, '\t');
	return last ? (pid_t)strtol(last + 1, NULL, 10) : -1;
}

static int note(struct all_found *all, pid_t pid, const char *fd, const char *link, struct error *err)
{
	if (all->n == all->room) {
		size_t room = all->room ? 2 * all->room : 256;
		struct found *more = reallocarray(all->list, room, sizeof(*more));

		if (!more)
			return error_set(err, ENOMEM, "out of memory");
		all->list = more;
		all->room = room;
	}
	all->list[all->n++] = (struct found){ .inode = strtoull(link + strlen("socket:["), NULL, 10), .pid = pid,
					      .fd = (int)strtol(fd, NULL, 10) };
	return 0;
}

static int find_in(struct all_found *all, pid_t pid, struct error *err)
{
	CLEANUP(dir_closep) DIR *d = NULL;
	const struct dirent *e;
	char path[32], link[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		ssize_t n = readlinkat(dirfd(d), e->d_name, link, sizeof(link) - 1);

		if (n <= 0)
			continue;
		link[n] = '\0';
		if (!strncmp(link, "socket:[", 8) && note(all, pid, e->d_name, link, err) < 0)
			return -err->code;
	}
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return (x->inode > y->inode) - (x->inode < y->inode);
}

static int visit_one(const struct found *f, socket_visit *visit, void *ctx, struct error *err)
{
	const struct socket_place place = { .pid = inner_pid(f->pid), .fd = f->fd };
	CLEANUP(fd_closep) int pidfd = pidfd_open(f->pid, 0);
	CLEANUP(fd_closep) int fd = pidfd < 0 ? -1 : pidfd_getfd(pidfd, f->fd, 0);

	if (fd < 0)
		return error_set(err, errno, "look at socket %d of process %d: %s", f->fd, (int)f->pid,
				 strerror(errno));
	return visit(ctx, &place, fd, err);
}

static int pids_of(const struct container *c, pid_t **ret, size_t *ret_n, struct error *err)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;

	return container_cgroup(c, false, &cg, err) < 0 ? -err->code : cgroup_pids(cg, ret, ret_n, err);
}

int socket_walk(const struct container *c, socket_visit *visit, void *ctx, struct error *err)
{
	CLEANUP(all_found_closep) struct all_found all = { 0 };
	CLEANUP(freep) pid_t *pids = NULL;
	size_t n = 0;
	int r = pids_of(c, &pids, &n, err);

	for (size_t i = 0; i < n && r == 0; i++)
		r = find_in(&all, pids[i], err);
	if (all.n)
		qsort(all.list, all.n, sizeof(*all.list), compare);
	for (size_t i = 0; i < all.n && r == 0; i++)
		if (i == 0 || all.list[i].inode != all.list[i - 1].inode)
			r = visit_one(&all.list[i], visit, ctx, err);
	return r;
}

int socket_find_pid(const struct container *c, pid_t pid, pid_t *ret, struct error *err)
{
	CLEANUP(freep) pid_t *pids = NULL;
	size_t n = 0;

	if (pids_of(c, &pids, &n, err) < 0)
		return -err->code;
	for (size_t i = 0; i < n; i++)
		if (inner_pid(pids[i]) == pid) {
			*ret = pids[i];
			return 0;
		}
	return error_set(err, ESRCH, "there is no process %d in it", (int)pid);
}
