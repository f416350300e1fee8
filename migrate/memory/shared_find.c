/*
 * Which shared objects a container has: what its processes map or have open, the
 * System V segments of its ipc namespace that nobody has attached just now, and
 * (shared_files.c) files of its tmpfs mounts.
 * One that is missed, because it comes or moves meanwhile, is left to CRIU.
 */
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "engine/base/fd.h"
#include "migrate/helper.h"
#include "migrate/memory/shared_state.h"
#include "migrate/memory/vmas.h"

#define SYSV_PREFIX "/SYSV"
#define MEMFD_PREFIX "/memfd:"
#define DELETED " (deleted)"

/* Log2 of the size of the huge pages of such a device, 0 for ordinary memory, or
 * -1 when its files aren't in memory. */
static int device_kind(const struct shared *s, dev_t dev)
{
	if (dev == s->shmem_dev)
		return 0;
	for (size_t i = 0; i < s->n_huge; i++)
		if (dev == s->huge[i].dev)
			return (int)s->huge[i].shift;
	return -1;
}

struct shared_object *shared_known(const struct shared *s, dev_t dev, ino_t ino, enum pages_object_kind kind)
{
	for (size_t i = 0; i < s->n; i++) {
		struct shared_object *o = s->objects[i];

		if (o->dev == dev && o->ino == ino && o->about.kind == kind)
			return o;
	}
	return NULL;
}

static enum pages_object_kind kind_of(const char *link)
{
	return strncmp(link, SYSV_PREFIX, sizeof(SYSV_PREFIX) - 1) != 0 ? PAGES_SHMEM : PAGES_SYSV;
}

/* Nothing is there any more, or never was. */
static bool is_gone(int error)
{
	return error == ENOENT || error == ESRCH || error == ENXIO;
}

/* What CRIU calls it: the name of a memfd, else all of the link. */
static void copy_name(char ret[PAGES_NAME_MAX + 1], const char *link)
{
	const char *name = !strncmp(link, MEMFD_PREFIX, sizeof(MEMFD_PREFIX) - 1) ?
				   link + sizeof(MEMFD_PREFIX) - 1 : link;
	size_t len = strlen(name), tail = sizeof(DELETED) - 1;

	if (len >= tail && !strcmp(name + len - tail, DELETED))
		len -= tail;
	(void)snprintf(ret, PAGES_NAME_MAX + 1, "%.*s", (int)len, name);
}

int shared_add(struct shared *s, int fd_consume, const struct stat *st, enum pages_object_kind kind,
	       const char *name, struct error *err)
{
	CLEANUP(fd_closep) int fd = fd_consume;
	int shift = device_kind(s, st->st_dev), seals = fcntl(fd, F_GET_SEALS);
	struct shared_object *o;

	if ((uint64_t)st->st_size < SHARED_MIN_BYTES || s->n == SHARED_OBJECTS_MAX || s->last)
		return 0;
	o = calloc(1, sizeof(*o));
	if (!o)
		return error_set(err, ENOMEM, "out of memory");
	*o = (struct shared_object){ .number = ++s->last_number, .dev = st->st_dev, .ino = st->st_ino,
				     .fd = TAKE_FD(fd), .seen = s->rounds, .told_size = UINT64_MAX };
	o->about = (struct pages_object){ .kind = kind, .inode = st->st_ino,
					  .huge_shift = shift > 0 ? (uint32_t)shift : 0,
					  .seals = seals < 0 ? F_SEAL_SEAL : (uint32_t)seals };
	(void)snprintf(o->about.name, sizeof(o->about.name), "%s", name);
	s->objects[s->n++] = o;
	return 0;
}

/* A file in memory that has no name; link: what its descriptor reads as. */
static int note(struct shared *s, int fd_consume, const char *link, struct error *err)
{
	CLEANUP(fd_closep) int fd = fd_consume;
	char name[PAGES_NAME_MAX + 1];
	struct shared_object *o;
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || device_kind(s, st.st_dev) < 0)
		return 0;
	o = shared_known(s, st.st_dev, st.st_ino, kind_of(link));
	if (o) {
		o->seen = s->rounds;
		return 0;
	}
	copy_name(name, link);
	return shared_add(s, TAKE_FD(fd), &st, kind_of(link), name, err);
}

/* Opens what a link of /proc leads to; missing ones are none. */
static int open_link(struct shared *s, int dir_fd, const char *name, struct error *err)
{
	char link[PAGES_NAME_MAX + sizeof(DELETED)];
	ssize_t n = readlinkat(dir_fd, name, link, sizeof(link) - 1);
	CLEANUP(fd_closep) int fd = n < 0 ? -EBADF : openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return is_gone(errno) || errno == EACCES || errno == EPERM ? 0 :
			error_set(err, errno, "open %s: %s", name, strerror(errno));
	link[n] = '\0';
	return note(s, TAKE_FD(fd), link, err);
}

static int look_at_maps(struct shared *s, int dir_fd, struct error *err)
{
	CLEANUP(fd_closep) int maps = openat(dir_fd, "maps", O_RDONLY | O_CLOEXEC);
	struct maps_reader reader = { .fd = maps };
	struct maps_line line;
	int r;

	if (maps < 0)
		return is_gone(errno) ? 0 : error_set(err, errno, "open maps: %s", strerror(errno));
	while ((r = maps_next(&reader, &line, err)) > 0) {
		struct shared_object *o;
		char path[64];

		if (!line.inode || device_kind(s, line.dev) < 0)
			continue;
		o = shared_known(s, line.dev, line.inode, kind_of(line.name));
		if (o) {
			o->seen = s->rounds;
			continue;
		}
		(void)snprintf(path, sizeof(path), "map_files/%llx-%llx", (unsigned long long)line.start,
			       (unsigned long long)line.end);
		if (open_link(s, dir_fd, path, err) < 0)
			return -err->code;
	}
	return r;
}

/* Only files in memory are opened, since to open another kind may do something. */
static int look_at_fds(struct shared *s, int dir_fd, struct error *err)
{
	CLEANUP(fd_closep) int fd = openat(dir_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP(dir_closep) DIR *fds = fd < 0 ? NULL : fdopendir(fd);

	if (!fds)
		return is_gone(errno) ? 0 : error_set(err, errno, "open fd: %s", strerror(errno));
	(void)TAKE_FD(fd);
	for (struct dirent *e; (e = readdir(fds));) {
		struct shared_object *o;
		struct stat st;

		if (*e->d_name == '.' || fstatat(dirfd(fds), e->d_name, &st, 0) < 0 || !S_ISREG(st.st_mode) ||
		    device_kind(s, st.st_dev) < 0)
			continue;
		o = shared_known(s, st.st_dev, st.st_ino, PAGES_SHMEM);
		if (o)
			o->seen = s->rounds;
		else if (open_link(s, dirfd(fds), e->d_name, err) < 0)
			return -err->code;
	}
	return 0;
}

static int look_at_process(struct shared *s, pid_t pid, struct error *err)
{
	CLEANUP(fd_closep) int dir = -EBADF;
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return is_gone(errno) ? 0 : error_set(err, errno, "open %s: %s", path, strerror(errno));
	if (look_at_maps(s, dir, err) < 0 || look_at_fds(s, dir, err) < 0)
		return error_wrap(err, "process %d", (int)pid);
	return 0;
}

/* ---- System V segments that nobody has attached ---- */

struct segment {
	int id;
};

/* By the mapping that attaching makes; one that nobody else has attached might be
 * destroyed with our leaving it where that is asked for. */
static int open_segment(int id, size_t size)
{
	char path[64];
	void *at = shmat(id, NULL, SHM_RDONLY);
	uintptr_t start = (uintptr_t)at;
	int fd;

	if (at == (void *)-1)
		return -EBADF;
	size = (size + PAGES_SIZE - 1) / PAGES_SIZE * PAGES_SIZE;
	(void)snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)start,
		       (unsigned long)(start + size));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	(void)shmdt(at);
	return fd;
}

static bool ends_unattached(void)
{
	CLEANUP(freep) char *text = NULL;
	struct error ignored;

	return fd_read_file_at(-EBADF, "/proc/sys/kernel/shm_rmid_forced", 16, &text, NULL, &ignored) < 0 ||
	       *text != '0';
}

static void tell_segments(const struct shared *s, int sock)
{
	struct shm_info info;
	int last = shmctl(0, SHM_INFO, (struct shmid_ds *)&info);
	struct error ignored;

	for (int i = 0; i <= last; i++) {
		struct shmid_ds ds;
		struct segment segment = { .id = shmctl(i, SHM_STAT, &ds) };
		CLEANUP(fd_closep) int fd = -EBADF;

		if (segment.id < 0 || ds.shm_segsz < SHARED_MIN_BYTES)
			continue;
		if (!shared_known(s, s->shmem_dev, (ino_t)segment.id, PAGES_SYSV))
			fd = open_segment(segment.id, ds.shm_segsz);
		if (fd_send_msg(sock, &segment, sizeof(segment), &fd, fd >= 0, &ignored) < 0)
			return;
	}
}

/* In a helper, since it enters the container's ipc namespace. */
static void enter_and_tell(int sock, const void *what)
{
	const struct shared *s = what;
	CLEANUP(fd_closep) int ns = -EBADF;
	char path[48];

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/ipc", (int)s->init);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	if (ns >= 0 && setns(ns, CLONE_NEWIPC) == 0 && !ends_unattached())
		tell_segments(s, sock);
}

static int take_segments(struct shared *s, int sock, struct error *err)
{
	struct segment segment;
	int fd = -EBADF;
	ssize_t n;

	while ((n = fd_recv_msg(sock, &segment, sizeof(segment), &fd, 1, err)) > 0) {
		struct shared_object *o = shared_known(s, s->shmem_dev, (ino_t)segment.id, PAGES_SYSV);

		if (o)
			o->seen = s->rounds;
		if (fd >= 0 && note(s, fd, SYSV_PREFIX, err) < 0)
			return -err->code;
		fd = -EBADF;
	}
	return (int)n;
}

static int look_at_segments(struct shared *s, struct error *err)
{
	CLEANUP(helper_end) struct helper h = HELPER_EMPTY;

	if (helper_start(enter_and_tell, s, &h, err) < 0)
		return -err->code;
	return take_segments(s, h.sock, err);
}

int shared_find(struct shared *s, struct error *err)
{
	CLEANUP(freep) pid_t *pids = NULL;
	size_t n = 0;

	if (cgroup_pids(s->cgroup, &pids, &n, err) < 0)
		return -err->code;
	for (size_t i = 0; i < n; i++)
		if (look_at_process(s, pids[i], err) < 0)
			return -err->code;
	return look_at_segments(s, err) < 0 ? -err->code : shared_find_files(s, err);
}
