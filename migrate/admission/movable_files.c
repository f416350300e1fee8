#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "engine/base/fd.h"
#include "migrate/admission/movable_state.h"

#define MQUEUE_MAGIC 0x19800202
#define PID_FS_MAGIC 0x50494446

/* One descriptor. */
struct entry {
	struct look *look;
	struct moving_task *task;
	int fd, pidfd;
	int mount;			/* mnt_id; -1: not told */
	unsigned flags;
	struct stat st;
	const char *info;		/* all of fdinfo */
	char link[512];
};

/* ---- mounts ---- */

/* proc_pid_mountinfo(5) */
int look_read_mounts(struct look *l, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	char path[48], *save = NULL;

	(void)snprintf(path, sizeof(path), "/proc/%d/mountinfo", (int)l->init);
	if (fd_read_file_at(-EBADF, path, 4 << 20, &text, NULL, err) < 0)
		return -err->code;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		const char *type = strstr(line, " - ");
		struct mounted m = { 0 }, *place;

		if (!type || sscanf(line, "%d %*d %u:%u", &m.id, &m.major, &m.minor) != 3 ||
		    sscanf(type, " - %23s", m.type) != 1)
			continue;
		place = look_grow((void **)&l->mounts, &l->n_mounts, sizeof(m));
		if (!place)
			return error_set(err, ENOMEM, "out of memory");
		*place = m;
	}
	return 0;
}

static bool has_mount(const struct look *l, int id)
{
	for (size_t i = 0; i < l->n_mounts; i++)
		if (l->mounts[i].id == id)
			return true;
	return false;
}

/* ---- what is no file of a file system ---- */

/* How what /proc/PID/fd shows as "anon_inode:..." is called, or NULL when CRIU can move it. */
static const char *anonymous_name(const char *link, char ret[64])
{
	static const char *const movable[] = { "[eventfd]", "[eventpoll]", "[signalfd]", "[timerfd]", "[pidfd]",
					       "inotify", "[fanotify]" };
	const char *name = strchr(link, ':');

	name = name ? name + 1 : link;
	for (size_t i = 0; i < sizeof(movable) / sizeof(*movable); i++)
		if (!strcmp(name, movable[i]))
			return NULL;
	if (*name == '[')
		(void)snprintf(ret, 64, "%.*s", (int)strcspn(name + 1, "]"), name + 1);
	else
		(void)snprintf(ret, 64, "%.63s", name);
	return ret;
}

/* Watches on file systems whose files have no lasting handle. */
static void check_watches(const struct entry *e)
{
	static const char *const pseudo[] = { "proc", "sysfs", "mqueue", "devpts" };

	for (const char *at = e->info; (at = strstr(at, "inotify wd:")); at++) {
		const char *dev = strstr(at, "sdev:");
		unsigned long sdev = dev ? strtoul(dev + strlen("sdev:"), NULL, 16) : 0;

		for (size_t i = 0; dev && i < e->look->n_mounts; i++) {
			const struct mounted *m = &e->look->mounts[i];

			/* the kernel's own form: 12 bits major, 20 minor */
			if (sdev != (((unsigned long)m->major << 20) | m->minor))
				continue;
			for (size_t k = 0; k < sizeof(pseudo) / sizeof(*pseudo); k++)
				if (!strcmp(m->type, pseudo[k]))
					look_find(e->look, REASON_OBJECT_UNSUPPORTED, e->task->pid, e->fd,
						  "a watch (inotify) on a file of %s", m->type);
		}
	}
}

static void check_pidfd(const struct entry *e)
{
	const char *at = strstr(e->info, "\nPid:");
	long pid = at ? strtol(at + strlen("\nPid:"), NULL, 10) : -1;

	if (pid == -1)
		return;			/* has ended */
	for (size_t i = 0; i < e->look->n_tasks; i++)
		if (e->look->tasks[i].pid == pid)
			return;
	look_find(e->look, REASON_OBJECT_OUTSIDE, e->task->pid, e->fd, "a descriptor of a process outside of it");
}

static void check_anonymous(const struct entry *e)
{
	char name[64];

	if (anonymous_name(e->link, name))
		look_find(e->look, REASON_OBJECT_UNSUPPORTED, e->task->pid, e->fd, "a descriptor of the kind %s", name);
	else if (!strcmp(e->link, "anon_inode:inotify"))
		check_watches(e);
	else if (!strcmp(e->link, "anon_inode:[pidfd]"))
		check_pidfd(e);
}

static void check_namespace_file(const struct entry *e)
{
	static const char *const kinds[] = { "user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time" };
	struct stat own;
	char path[48];

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		(void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)e->look->init, kinds[i]);
		if (stat(path, &own) == 0 && own.st_ino == e->st.st_ino)
			return;
	}
	look_find(e->look, REASON_OBJECT_OUTSIDE, e->task->pid, e->fd, "a namespace that is not the container's");
}

/* ---- pipes ---- */

static void note_pipe(const struct entry *e)
{
	struct look *l = e->look;
	unsigned mode = e->flags & O_ACCMODE;
	struct pipe_end *p = look_grow((void **)&l->pipes, &l->n_pipes, sizeof(*p));

	if (p)
		*p = (struct pipe_end){ .inode = e->st.st_ino, .pid = e->task->pid, .fd = e->fd,
					.reads = mode != O_WRONLY, .writes = mode != O_RDONLY };
}

static bool is_monitors(pid_t monitor, uint64_t inode)
{
	char path[48], wanted[32], link[64];
	CLEANUP(dir_closep) DIR *d = NULL;
	const struct dirent *entry;

	(void)snprintf(wanted, sizeof(wanted), "pipe:[%llu]", (unsigned long long)inode);
	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)monitor);
	d = opendir(path);
	while (d && (entry = readdir(d))) {
		ssize_t n = readlinkat(dirfd(d), entry->d_name, link, sizeof(link) - 1);

		link[n > 0 ? n : 0] = '\0';
		if (!strcmp(link, wanted))
			return true;
	}
	return false;
}

/* Somebody who is not in the container has the other end: a pipe that nobody
 * has the other end of says so. */
static bool other_end_lives(const struct pipe_end *p)
{
	CLEANUP(fd_closep) int pidfd = pidfd_open(p->pid, 0);
	CLEANUP(fd_closep) int fd = pidfd < 0 ? -EBADF : pidfd_getfd(pidfd, p->fd, 0);
	struct pollfd poller = { .fd = fd };

	return fd >= 0 && poll(&poller, 1, 0) == 0;
}

static int compare(const void *a, const void *b)
{
	const struct pipe_end *x = a, *y = b;

	return (x->inode > y->inode) - (x->inode < y->inode);
}

void look_at_pipes(struct look *l)
{
	if (l->n_pipes)
		qsort(l->pipes, l->n_pipes, sizeof(*l->pipes), compare);
	for (size_t i = 0, next; i < l->n_pipes; i = next) {
		const struct pipe_end *p = &l->pipes[i];
		bool reads = false, writes = false;

		for (next = i; next < l->n_pipes && l->pipes[next].inode == p->inode; next++) {
			reads |= l->pipes[next].reads;
			writes |= l->pipes[next].writes;
		}
		if (!(reads && writes) && !is_monitors(l->monitor, p->inode) && other_end_lives(p))
			look_find(l, REASON_OBJECT_OUTSIDE, p->pid, p->fd, "a pipe whose other end is outside of it");
	}
}

/* ---- files ---- */

static bool is_movable_device(dev_t dev)
{
	unsigned kind = major(dev), number = minor(dev);

	if (kind == 1)			/* null, zero, full, random, urandom: mem(4), random(4) */
		return number == 3 || number == 5 || (number >= 7 && number <= 9);
	return (kind == 5 && number <= 2) || (kind >= 136 && kind <= 143);	/* tty(4), pts(4) */
}

static void check_file(const struct entry *e, unsigned long type)
{
	mode_t kind = e->st.st_mode & S_IFMT;
	bool device = kind == S_IFCHR || kind == S_IFBLK;

	if (kind == S_IFCHR && e->st.st_rdev == makedev(5, 0))
		e->task->holds_tty = true;
	if (device && (kind == S_IFBLK || !is_movable_device(e->st.st_rdev)))
		look_find(e->look, REASON_OBJECT_UNSUPPORTED, e->task->pid, e->fd, "the device %u:%u",
			  major(e->st.st_rdev), minor(e->st.st_rdev));
	else if (type == MQUEUE_MAGIC && kind == S_IFREG)
		look_find(e->look, REASON_OBJECT_UNSUPPORTED, e->task->pid, e->fd, "a POSIX message queue");
	else if (type == HUGETLBFS_MAGIC)
		look_find(e->look, REASON_OBJECT_UNSUPPORTED, e->task->pid, e->fd, "a file of huge pages");
	else if (type == SECRETMEM_MAGIC)
		look_find(e->look, REASON_OBJECT_UNSUPPORTED, e->task->pid, e->fd, "secret memory (memfd_secret)");
	else if (e->mount >= 0 && !has_mount(e->look, e->mount) && strncmp(e->link, "/memfd:", 7) != 0)
		look_find(e->look, REASON_OBJECT_OUTSIDE, e->task->pid, e->fd, "a file from outside of it, %s",
			  e->link);
}

/* unix(7), SCM_RIGHTS; the kernel tells how many there are. */
static void note_in_flight(const struct entry *e)
{
	const char *at = strstr(e->info, "scm_fds:");

	if (at && strtoul(at + strlen("scm_fds:"), NULL, 10))
		e->look->in_flight = true;
}

static void check_entry(const struct entry *e, unsigned long type)
{
	switch (type) {
	case PIPEFS_MAGIC:
		note_pipe(e);
		break;
	case SOCKFS_MAGIC:
		note_in_flight(e);
		look_at_socket(e->look, e->task, e->pidfd, e->fd, e->st.st_ino);
		break;
	case ANON_INODE_FS_MAGIC:
		check_anonymous(e);
		break;
	case PID_FS_MAGIC:
		check_pidfd(e);
		break;
	case NSFS_MAGIC:
		check_namespace_file(e);
		break;
	default:
		check_file(e, type);
	}
}

static void look_at_descriptor(struct look *l, struct moving_task *t, int pidfd, int fd)
{
	CLEANUP(freep) char *info = NULL;
	struct entry e = { .look = l, .task = t, .fd = fd, .pidfd = pidfd, .mount = -1 };
	char path[48];
	struct error ignored;
	struct statfs fs;
	const char *at;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)t->pid, fd);
	if (fd_read_file_at(-EBADF, path, 1 << 20, &info, NULL, &ignored) < 0)
		return;
	(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)t->pid, fd);
	n = readlink(path, e.link, sizeof(e.link) - 1);
	if (n < 0 || stat(path, &e.st) < 0 || statfs(path, &fs) < 0)
		return;			/* closed meanwhile */
	e.info = info;
	at = strstr(info, "mnt_id:");
	e.mount = at ? (int)strtol(at + strlen("mnt_id:"), NULL, 10) : -1;
	at = strstr(info, "flags:");
	e.flags = at ? (unsigned)strtoul(at + strlen("flags:"), NULL, 8) : 0;
	check_entry(&e, (unsigned long)fs.f_type);
}

void look_at_files(struct look *l, struct moving_task *t)
{
	CLEANUP(fd_closep) int pidfd = pidfd_open(t->pid, 0);
	CLEANUP(dir_closep) DIR *d = NULL;
	const struct dirent *entry;
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)t->pid);
	d = opendir(path);
	while (d && (entry = readdir(d)))
		if (entry->d_name[0] != '.')
			look_at_descriptor(l, t, pidfd, (int)strtol(entry->d_name, NULL, 10));
}
