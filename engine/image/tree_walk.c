#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/base/cleanup.h"
#include "engine/image/tree_walk.h"

/* The path that was visited first of an inode with several links. */
struct first_link {
	dev_t dev;
	ino_t ino;
	char path[];
};

struct walk {
	bool contents;
	const struct tree_choice *choice;	/* NULL: all */
	tree_visit_fn visit;
	void *ctx;
	struct tree_stats stats;
	void *links;			/* tsearch(3) of struct first_link */
	size_t path_len;
	char path[PATH_MAX];
};

struct names {
	char **list;
	size_t n;
};

static void names_clear(struct names *names)
{
	for (size_t i = 0; i < names->n; i++)
		free(names->list[i]);
	free(names->list);
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int names_add(struct names *names, const char *name, struct error *err)
{
	if ((names->n & (names->n - 1)) == 0) {		/* grows at every power of two */
		size_t room = names->n ? names->n * 2 : 1;
		char **more = realloc(names->list, room * sizeof(*more));

		if (!more)
			return error_set(err, ENOMEM, "out of memory");
		names->list = more;
	}
	names->list[names->n] = strdup(name);
	if (!names->list[names->n])
		return error_set(err, ENOMEM, "out of memory");
	names->n++;
	return 0;
}

static int names_read(int fd, struct names *names, struct error *err)
{
	CLEANUP(fd_closep) int own_fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP(dir_closep) DIR *dir = own_fd >= 0 ? fdopendir(own_fd) : NULL;
	struct dirent *e;

	if (!dir)
		return error_set(err, errno, "list: %s", strerror(errno));
	own_fd = -EBADF;	/* dir's now */
	while ((errno = 0, e = readdir(dir))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (names_add(names, e->d_name, err) < 0)
			return -err->code;
	}
	if (errno)
		return error_set(err, errno, "list: %s", strerror(errno));
	if (names->n)
		qsort(names->list, names->n, sizeof(names->list[0]), by_bytes);
	return 0;
}

static int compare_links(const void *a, const void *b)
{
	const struct first_link *x = a, *y = b;

	if (x->ino != y->ino)
		return x->ino < y->ino ? -1 : 1;
	return x->dev == y->dev ? 0 : x->dev < y->dev ? -1 : 1;
}

/* *ret is the earlier path of this inode, or NULL when it is new. */
static int find_link(struct walk *w, const struct stat *st, const char **ret, struct error *err)
{
	struct first_link *link, **found;

	*ret = NULL;
	if (st->st_nlink < 2 || S_ISDIR(st->st_mode))
		return 0;
	link = calloc(1, sizeof(*link) + w->path_len + 1);
	if (!link)
		return error_set(err, ENOMEM, "out of memory");
	link->dev = st->st_dev;
	link->ino = st->st_ino;
	memcpy(link->path, w->path, w->path_len);
	found = tsearch(link, &w->links, compare_links);
	if (found && *found == link)
		return 0;
	free(link);
	if (!found)
		return error_set(err, ENOMEM, "out of memory");
	*ret = (*found)->path;
	return 0;
}

static int open_inside(int dirfd, const char *name, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW),
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
	};

	return (int)syscall(SYS_openat2, dirfd, name, &how, sizeof(how));
}

static int read_target(int dirfd, const char *name, char target[PATH_MAX], struct error *err)
{
	ssize_t n = readlinkat(dirfd, name, target, PATH_MAX - 1);

	if (n < 0)
		return error_set(err, errno, "read symlink: %s", strerror(errno));
	target[n] = '\0';
	return 0;
}

static void fill(struct tree_entry *e, const struct walk *w, const struct stat *st)
{
	e->path = w->path;
	e->mode = st->st_mode;
	e->uid = st->st_uid;
	e->gid = st->st_gid;
	e->rdev = S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode) ? st->st_rdev : 0;
	e->dev = st->st_dev;
	e->ino = st->st_ino;
	e->size = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0;
	e->allocated_bytes = (uint64_t)st->st_blocks * 512;
	e->mtime = st->st_mtim;
	e->ctime = st->st_ctim;
	e->links = st->st_nlink;
}

static int is_wanted(const struct walk *w, const struct tree_entry *e, struct error *err)
{
	return w->choice ? w->choice->wanted(w->ctx, e, err) : 1;
}

static int report(struct walk *w, const struct tree_entry *e, int fd, struct error *err)
{
	w->stats.entries++;
	return w->visit(w->ctx, e, fd, err);
}

/* fd is open on a directory or a regular file, or -EBADF: name below dirfd. */
static int visit_with_attributes(struct walk *w, struct tree_entry *e, int fd, int dirfd,
				 const char *name, struct error *err)
{
	int r;

	if (w->contents && tree_xattrs_read(fd, dirfd, name, &e->xattrs, err) < 0)
		return -err->code;
	r = report(w, e, S_ISREG(e->mode) ? fd : -EBADF, err);
	tree_xattrs_clear(&e->xattrs);
	return r;
}

static int visit_special(struct walk *w, int dirfd, const char *name, const struct stat *st,
			 struct error *err)
{
	struct tree_entry e = { 0 };
	char target[PATH_MAX];
	int r;

	fill(&e, w, st);
	if (find_link(w, st, &e.hardlink, err) < 0)
		return -err->code;
	r = is_wanted(w, &e, err);
	if (r <= 0)
		return r;
	if (S_ISLNK(st->st_mode)) {
		if (read_target(dirfd, name, target, err) < 0)
			return -err->code;
		e.target = target;
	}
	if (e.hardlink)
		return report(w, &e, -EBADF, err);
	return visit_with_attributes(w, &e, -EBADF, dirfd, name, err);
}

static int visit_file(struct walk *w, int dirfd, const char *name, struct stat *st,
		      struct error *err)
{
	CLEANUP(fd_closep) int fd = -EBADF;
	const ino_t ino = st->st_ino;
	struct tree_entry e = { 0 };
	int r;

	fill(&e, w, st);
	if (find_link(w, st, &e.hardlink, err) < 0)
		return -err->code;
	r = is_wanted(w, &e, err);
	if (r <= 0)
		return r;
	if (e.hardlink)
		return report(w, &e, -EBADF, err);
	if (w->contents) {
		fd = open_inside(dirfd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY);
		if (fd < 0 && errno == EXDEV)
			return 0;
		if (fd < 0 || fstat(fd, st) < 0)
			return error_set(err, errno, "open: %s", strerror(errno));
		if (!S_ISREG(st->st_mode) || st->st_ino != ino)
			return error_set(err, EAGAIN, "replaced while it was being read");
	}
	fill(&e, w, st);
	return visit_with_attributes(w, &e, fd, dirfd, name, err);
}

static int visit_directory(struct walk *w, int fd, struct error *err);

static int visit_subdirectory(struct walk *w, int dirfd, const char *name, const struct stat *st,
			      struct error *err)
{
	CLEANUP(fd_closep) int fd = open_inside(dirfd, name, O_RDONLY | O_DIRECTORY);
	struct tree_entry e = { 0 };
	int r;

	if (fd >= 0)
		return visit_directory(w, fd, err);
	if (errno != EXDEV)
		return error_set(err, errno, "open: %s", strerror(errno));
	fill(&e, w, st);	/* a mount point: what is mounted there stays out */
	r = is_wanted(w, &e, err);
	if (r <= 0)
		return r;
	return report(w, &e, -EBADF, err);
}

static int visit_child(struct walk *w, int dirfd, const char *name, struct error *err)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
		return error_set(err, errno, "stat: %s", strerror(errno));
	if (S_ISSOCK(st.st_mode)) {
		w->stats.sockets_skipped++;
		return 0;
	}
	if (S_ISDIR(st.st_mode))
		return visit_subdirectory(w, dirfd, name, &st, err);
	if (S_ISREG(st.st_mode))
		return visit_file(w, dirfd, name, &st, err);
	return visit_special(w, dirfd, name, &st, err);
}

static bool has_vanished(int dirfd, const char *name)
{
	return faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
}

/* What it takes to be another file than it was a moment ago. */
static bool is_race(int code)
{
	return code == EAGAIN || code == ENOENT || code == ENOTDIR || code == EISDIR || code == ELOOP ||
	       code == EINVAL || code == ENXIO || code == ESTALE;
}

static bool was_replaced(const struct walk *w, uint64_t visited, const struct error *err)
{
	return w->choice && w->choice->live && w->stats.entries == visited && is_race(err->code);
}

/* On failure the path is left as it was: the error names it. */
static int visit_named(struct walk *w, int dirfd, const char *name, struct error *err)
{
	size_t outer = w->path_len, len = strlen(name), start = outer ? outer + 1 : 0;
	uint64_t visited = w->stats.entries;

	if (start + len >= sizeof(w->path))
		return error_set(err, ENAMETOOLONG, "a path below this folder is longer than %d bytes",
				 PATH_MAX - 1);
	if (outer)
		w->path[outer] = '/';
	memcpy(w->path + start, name, len + 1);
	w->path_len = start + len;
	if (visit_child(w, dirfd, name, err) < 0 &&
	    !(w->stats.entries == visited && has_vanished(dirfd, name)) && !was_replaced(w, visited, err))
		return -err->code;
	w->path_len = outer;
	w->path[outer] = '\0';
	return 0;
}

static int visit_names(struct walk *w, int fd, const struct names *names, struct error *err)
{
	for (size_t i = 0; i < names->n; i++) {
		if (visit_named(w, fd, names->list[i], err) < 0)
			return -err->code;
	}
	return 0;
}

static int visit_directory(struct walk *w, int fd, struct error *err)
{
	struct tree_entry e = { 0 };
	struct names names = { 0 };
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return error_set(err, errno, "stat: %s", strerror(errno));
	fill(&e, w, &st);
	if (!w->path_len)
		e.path = ".";
	r = is_wanted(w, &e, err);
	if (r < 0 || (r > 0 && visit_with_attributes(w, &e, fd, -EBADF, "", err) < 0))
		return -err->code;
	r = names_read(fd, &names, err);
	if (r == 0)
		r = visit_names(w, fd, &names, err);
	names_clear(&names);
	return r;
}

static int walk(struct walk *w, int dirfd, struct tree_stats *stats, struct error *err)
{
	int r = visit_directory(w, dirfd, err);

	if (w->links)
		tdestroy(w->links, free);
	if (r < 0)
		return w->path_len ? error_wrap(err, "%s", w->path) : r;
	if (stats)
		*stats = w->stats;
	return 0;
}

int tree_walk(int dirfd, bool contents, tree_visit_fn visit, void *ctx, struct tree_stats *stats,
	      struct error *err)
{
	struct walk w = { .contents = contents, .visit = visit, .ctx = ctx };

	return walk(&w, dirfd, stats, err);
}

int tree_walk_chosen(int dirfd, const struct tree_choice *choice, tree_visit_fn visit, void *ctx,
		     struct tree_stats *stats, struct error *err)
{
	struct walk w = { .contents = true, .choice = choice, .visit = visit, .ctx = ctx };

	return walk(&w, dirfd, stats, err);
}

int tree_next_data(int fd, uint64_t size, uint64_t *offset, uint64_t *ret_len, struct error *err)
{
	off_t data, hole;

	if (*offset >= size)
		return 0;
	data = lseek(fd, (off_t)*offset, SEEK_DATA);
	if (data < 0 && errno == ENXIO)
		return 0;
	hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
	if (hole < 0 && errno == ENXIO)		/* became shorter */
		return 0;
	if (hole < 0)
		return error_set(err, errno, "look for holes: %s", strerror(errno));
	if ((uint64_t)data >= size)
		return 0;
	*offset = (uint64_t)data;
	*ret_len = ((uint64_t)hole < size ? (uint64_t)hole : size) - (uint64_t)data;
	return 1;
}
