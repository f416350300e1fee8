#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/image/tree_places.h"
#include "engine/image/tree_writer.h"

/* A directory whose owner, mode, attributes and time are still to be set. */
struct folder {
	struct folder *next;		/* made before this one */
	struct tree_entry entry;	/* owns path and attributes */
	char path[];
};

struct tree_writer {
	struct tree_places places;
	struct tree_limits limits;
	struct tree_stats stats;
	const struct tree_contents *contents;	/* NULL: all come here */
	struct folder *folders;
	/* between begin and end of an entry that takes data */
	int fd;
	uint64_t size;
	struct tree_entry meta;		/* path and links unset; owns the attributes */
};

int tree_writer_new(int dirfd, const struct tree_limits *limits, struct tree_writer **ret,
		    struct error *err)
{
	struct tree_writer *w = calloc(1, sizeof(*w));

	if (!w)
		return error_set(err, ENOMEM, "out of memory");
	tree_places_init(&w->places, dirfd);
	w->fd = -EBADF;
	if (limits)
		w->limits = *limits;
	*ret = w;
	return 0;
}

static void folder_drop(struct tree_writer *w)
{
	struct folder *f = w->folders;

	w->folders = f->next;
	tree_xattrs_clear(&f->entry.xattrs);
	free(f);
}

void tree_writer_free(struct tree_writer *w)
{
	if (!w)
		return;
	while (w->folders)
		folder_drop(w);
	tree_xattrs_clear(&w->meta.xattrs);
	tree_places_clear(&w->places);
	fd_close(&w->fd);
	free(w);
}

void tree_writer_set_contents(struct tree_writer *w, const struct tree_contents *contents)
{
	w->contents = contents;
}

static int count_entry(struct tree_writer *w, struct error *err)
{
	if (w->limits.entries && w->stats.entries + w->places.made >= w->limits.entries)
		return error_set(err, EFBIG, "more than the %llu files that are allowed",
				 (unsigned long long)w->limits.entries);
	w->stats.entries++;
	return 0;
}

static int count_bytes(struct tree_writer *w, uint64_t len, struct error *err)
{
	if (w->limits.bytes && len > w->limits.bytes - w->stats.bytes)
		return error_set(err, EFBIG, "more than the %llu bytes that are allowed",
				 (unsigned long long)w->limits.bytes);
	w->stats.bytes += len;
	return 0;
}

/* Makes room for something that isn't a directory. */
static int clear_place(const struct tree_place *at, struct error *err)
{
	if (!*at->name)
		return error_set(err, EPROTO, "the top of the tree must be a folder");
	if (unlinkat(at->parent_fd, at->name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno == EISDIR && unlinkat(at->parent_fd, at->name, AT_REMOVEDIR) == 0)
		return 0;
	if (errno == ENOTEMPTY)
		return error_set(err, EPROTO, "would replace a folder that isn't empty");
	return error_set(err, errno, "replace: %s", strerror(errno));
}

static int copy_meta(const struct tree_entry *from, struct tree_entry *to, struct error *err)
{
	*to = *from;
	to->path = to->hardlink = to->target = NULL;
	to->xattrs = (struct tree_xattrs){ 0 };
	for (size_t i = 0; i < from->xattrs.n; i++) {
		const struct tree_xattr *x = &from->xattrs.list[i];

		if (tree_xattrs_add(&to->xattrs, x->name, x->value, x->size, err) < 0) {
			tree_xattrs_clear(&to->xattrs);
			return -err->code;
		}
	}
	return 0;
}

/* In this order: chown takes away setuid bits and capabilities, and an access
 * ACL may change the group's bits. fd is open, or -EBADF: name in parent_fd. */
static int set_meta(int fd, int parent_fd, const char *name, const struct tree_entry *e,
		    struct error *err)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, e->mtime };
	int at = fd >= 0 ? fd : parent_fd;
	int flags = fd >= 0 ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW;
	const char *path = fd >= 0 ? "" : name;
	int r;

	if (fchownat(at, path, e->uid, e->gid, flags) < 0)
		return error_set(err, errno, "set owner %u:%u: %s", e->uid, e->gid, strerror(errno));
	if (tree_xattrs_write(fd, parent_fd, name, &e->xattrs, err) < 0)
		return -err->code;
	if (!S_ISLNK(e->mode)) {
		r = fd >= 0 ? fchmod(fd, e->mode & 07777) : fchmodat(at, path, e->mode & 07777, 0);
		if (r < 0)
			return error_set(err, errno, "set mode %o: %s", e->mode & 07777,
					 strerror(errno));
	}
	r = fd >= 0 ? futimens(fd, times) : utimensat(at, path, times, flags);
	if (r < 0)
		return error_set(err, errno, "set time: %s", strerror(errno));
	return 0;
}

/* Remembers what tree_writer_finish sets. */
static int add_folder(struct tree_writer *w, const struct tree_entry *e, struct error *err)
{
	CLEANUP(freep) struct folder *f = calloc(1, sizeof(*f) + strlen(e->path) + 1);

	if (!f)
		return error_set(err, ENOMEM, "out of memory");
	if (tree_path_normalize(e->path, f->path, err) < 0 || copy_meta(e, &f->entry, err) < 0)
		return -err->code;
	f->next = w->folders;
	w->folders = TAKE_PTR(f);
	return 0;
}

static int make_folder(struct tree_writer *w, const struct tree_place *at, const struct tree_entry *e,
		       struct error *err)
{
	struct stat st;

	if (*at->name && mkdirat(at->parent_fd, at->name, 0700) < 0) {
		if (errno != EEXIST)
			return error_set(err, errno, "make folder: %s", strerror(errno));
		if (fstatat(at->parent_fd, at->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return error_set(err, errno, "stat: %s", strerror(errno));
		if (!S_ISDIR(st.st_mode) &&
		    (clear_place(at, err) < 0 ||
		     (mkdirat(at->parent_fd, at->name, 0700) < 0 &&
		      error_set(err, errno, "make folder: %s", strerror(errno)))))
			return -err->code;
	}
	return add_folder(w, e, err);
}

/* 1 when it is at its place already. */
static int bring_file(const struct tree_writer *w, const struct tree_place *at, const struct tree_entry *e,
		      struct error *err)
{
	const struct tree_contents *c = w->contents;

	return c && c->bring ? c->bring(c->ctx, e->path, at->parent_fd, at->name, err) : 0;
}

static int make_file(struct tree_writer *w, const struct tree_place *at, const struct tree_entry *e,
		     struct error *err)
{
	int there;

	if (e->size > INT64_MAX)
		return error_set(err, EPROTO, "impossible size");
	if (clear_place(at, err) < 0)
		return -err->code;
	there = bring_file(w, at, e, err);
	if (there < 0 || copy_meta(e, &w->meta, err) < 0)
		return -err->code;
	w->fd = openat(at->parent_fd, at->name,
		       O_WRONLY | (there ? 0 : O_CREAT | O_EXCL) | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (w->fd < 0)
		return error_set(err, errno, "create: %s", strerror(errno));
	w->size = e->size;
	return 0;
}

/* New content for the file that was linked; its attributes stay. */
static int open_linked(struct tree_writer *w, const struct tree_place *at, const struct tree_entry *e,
		       struct error *err)
{
	struct stat st;

	if (e->size > INT64_MAX)
		return error_set(err, EPROTO, "impossible size");
	w->fd = openat(at->parent_fd, at->name,
		       O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (w->fd < 0 || fstat(w->fd, &st) < 0)
		return error_set(err, errno, "open: %s", strerror(errno));
	if (!S_ISREG(st.st_mode))
		return error_set(err, EPROTO, "content for something that is no file");
	if (ftruncate(w->fd, 0) < 0)
		return error_set(err, errno, "truncate: %s", strerror(errno));
	w->size = e->size;
	w->meta = (struct tree_entry){
		.mode = st.st_mode, .uid = st.st_uid, .gid = st.st_gid, .mtime = st.st_mtim,
	};
	return 0;
}

static int make_link(struct tree_writer *w, const struct tree_entry *e, struct error *err)
{
	CLEANUP(fd_closep) int from_fd = -EBADF;
	char a[PATH_MAX], b[PATH_MAX];
	struct tree_place from, to;

	if (tree_path_normalize(e->hardlink, a, err) < 0 || tree_path_normalize(e->path, b, err) < 0)
		return -err->code;
	if (!strcmp(a, b))
		return error_set(err, EPROTO, "hard link to itself");
	if (tree_places_find(&w->places, e->hardlink, &from, err) < 0)
		return error_wrap(err, "hard link to %s", e->hardlink);
	from_fd = fcntl(from.parent_fd, F_DUPFD_CLOEXEC, 0);	/* the next find may close it */
	if (from_fd < 0)
		return error_set(err, errno, "dup: %s", strerror(errno));
	if (tree_places_find(&w->places, e->path, &to, err) < 0)
		return -err->code;
	if (clear_place(&to, err) < 0)
		return -err->code;
	if (linkat(from_fd, from.name, to.parent_fd, to.name, 0) < 0)
		return error_set(err, errno, "hard link to %s: %s", e->hardlink, strerror(errno));
	return e->size ? open_linked(w, &to, e, err) : 0;
}

static int make_special(const struct tree_place *at, const struct tree_entry *e, struct error *err)
{
	int r;

	if (clear_place(at, err) < 0)
		return -err->code;
	if (S_ISLNK(e->mode))
		r = e->target ? symlinkat(e->target, at->parent_fd, at->name) : (errno = EPROTO, -1);
	else
		r = mknodat(at->parent_fd, at->name, (e->mode & S_IFMT) | 0600, e->rdev);
	if (r < 0)
		return error_set(err, errno, "create: %s", strerror(errno));
	return set_meta(-EBADF, at->parent_fd, at->name, e, err);
}

int tree_writer_begin(struct tree_writer *w, const struct tree_entry *e, struct error *err)
{
	struct tree_place at;

	if (S_ISSOCK(e->mode) && !e->hardlink) {
		w->stats.sockets_skipped++;
		return 0;
	}
	if (count_entry(w, err) < 0)
		return -err->code;
	if (e->hardlink)
		return make_link(w, e, err);
	if (tree_places_find(&w->places, e->path, &at, err) < 0)
		return -err->code;
	switch (e->mode & S_IFMT) {
	case S_IFDIR:
		return make_folder(w, &at, e, err);
	case S_IFREG:
		return make_file(w, &at, e, err);
	case S_IFLNK:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
		return make_special(&at, e, err);
	default:
		return error_set(err, EPROTO, "unknown type of file %o", e->mode & S_IFMT);
	}
}

static int check_range(struct tree_writer *w, uint64_t len, uint64_t offset, struct error *err)
{
	if (w->fd < 0)
		return error_set(err, EPROTO, "content for something that is no file");
	if (offset > w->size || len > w->size - offset)
		return error_set(err, EPROTO, "content beyond the end of the file");
	return count_bytes(w, len, err);
}

static int write_at(int fd, const char *data, size_t len, uint64_t offset, struct error *err)
{
	while (len) {
		ssize_t n = pwrite(fd, data, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(err, errno, "write: %s", strerror(errno));
		data += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int tree_writer_data(struct tree_writer *w, const void *data, size_t len, uint64_t offset,
		     struct error *err)
{
	const struct tree_contents *c = w->contents;

	if (!len)
		return 0;
	if (check_range(w, len, offset, err) < 0 ||
	    (c && c->make_room && c->make_room(c->ctx, w->fd, offset, len, err) < 0))
		return -err->code;
	return write_at(w->fd, data, len, offset, err);
}

/* For what copy_file_range(2) can't do: other file systems, procfs. */
static int copy_by_hand(int from_fd, int to_fd, uint64_t offset, uint64_t len, struct error *err)
{
	char buf[65536];

	while (len) {
		ssize_t n = pread(from_fd, buf, len < sizeof(buf) ? len : sizeof(buf), (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(err, errno, "read: %s", strerror(errno));
		if (n == 0)	/* became shorter: the rest is a hole */
			return 0;
		if (write_at(to_fd, buf, (size_t)n, offset, err) < 0)
			return -err->code;
		offset += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

int tree_writer_copy(struct tree_writer *w, int from_fd, uint64_t offset, uint64_t len,
		     struct error *err)
{
	if (check_range(w, len, offset, err) < 0)
		return -err->code;
	while (len) {
		off_t in = (off_t)offset, out = (off_t)offset;
		ssize_t n = copy_file_range(from_fd, &in, w->fd, &out, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO))
			return error_set(err, errno, "write: %s", strerror(errno));
		if (n <= 0)
			return copy_by_hand(from_fd, w->fd, offset, len, err);
		offset += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

int tree_writer_end(struct tree_writer *w, struct error *err)
{
	int r = 0;

	if (w->fd < 0)
		return 0;
	if (ftruncate(w->fd, (off_t)w->size) < 0)
		r = error_set(err, errno, "set size %llu: %s", (unsigned long long)w->size,
			      strerror(errno));
	if (r == 0)
		r = set_meta(w->fd, -EBADF, "", &w->meta, err);
	if (close(TAKE_FD(w->fd)) < 0 && r == 0)
		r = error_set(err, errno, "write: %s", strerror(errno));
	tree_xattrs_clear(&w->meta.xattrs);
	return r;
}

/* The latest made come first, so what is inside is done before its folder. */
int tree_writer_finish(struct tree_writer *w, struct tree_stats *ret, struct error *err)
{
	while (w->folders) {
		struct folder *f = w->folders;
		CLEANUP(fd_closep) int fd = tree_places_open(&w->places, f->path, O_RDONLY | O_DIRECTORY);

		/* a later entry may have replaced it by something else */
		if (fd < 0 && errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
			return error_set(err, errno, "open %s: %s", f->path, strerror(errno));
		if (fd >= 0 && set_meta(fd, -EBADF, "", &f->entry, err) < 0)
			return error_wrap(err, "%s", *f->path ? f->path : ".");
		folder_drop(w);
	}
	if (ret) {
		*ret = w->stats;
		ret->entries += w->places.made;
	}
	return 0;
}
