#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/fd.h"
#include "engine/image/tree_folders.h"
#include "engine/image/tree_places.h"
#include "engine/image/tree_writer.h"

struct tree_writer {
	struct tree_places places;
	struct tree_limits limits;
	struct tree_stats stats;
	const struct tree_contents *contents;	/* NULL: all come here */
	bool changes;
	struct tree_folders folders;
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

void tree_writer_free(struct tree_writer *w)
{
	if (!w)
		return;
	tree_folders_clear(&w->folders);
	tree_xattrs_clear(&w->meta.xattrs);
	tree_places_clear(&w->places);
	fd_close(&w->fd);
	free(w);
}

void tree_writer_set_contents(struct tree_writer *w, const struct tree_contents *contents)
{
	w->contents = contents;
}

void tree_writer_set_changes(struct tree_writer *w)
{
	w->changes = true;
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
static int clear_place(struct tree_writer *w, const struct tree_place *at, struct error *err)
{
	if (!*at->name)
		return error_set(err, EPROTO, "the top of the tree must be a folder");
	if (unlinkat(at->parent_fd, at->name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno == EISDIR && unlinkat(at->parent_fd, at->name, AT_REMOVEDIR) == 0)
		return 0;
	if (errno == ENOTEMPTY && w->changes)
		return fd_remove_tree_at(at->parent_fd, at->name, err);
	if (errno == ENOTEMPTY)
		return error_set(err, EPROTO, "would replace a folder that isn't empty");
	return error_set(err, errno, "replace: %s", strerror(errno));
}

static int find_place(struct tree_writer *w, const char *path, struct tree_place *ret, struct error *err)
{
	if (tree_places_find(&w->places, path, ret, err) < 0)
		return -err->code;
	if (!w->changes || !*ret->name)		/* the top itself is not in it */
		return 0;
	return tree_folders_note_time(&w->folders, ret->parent_fd, w->places.parent, err);
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
		    (clear_place(w, at, err) < 0 ||
		     (mkdirat(at->parent_fd, at->name, 0700) < 0 &&
		      error_set(err, errno, "make folder: %s", strerror(errno)))))
			return -err->code;
	}
	return tree_folders_add(&w->folders, e, err);
}

/* 1 when it is at its place already. */
static int bring_file(const struct tree_writer *w, const struct tree_place *at, const struct tree_entry *e,
		      struct error *err)
{
	const struct tree_contents *c = w->contents;

	return c && c->bring ? c->bring(c->ctx, e->path, at->parent_fd, at->name, err) : 0;
}

/* 1 when it is at its place, 0 when it is to be made. */
static int prepare_file(struct tree_writer *w, const struct tree_place *at, const struct tree_entry *e,
			struct error *err)
{
	struct stat st;

	if (e->change == TREE_PATCH) {
		if (fstatat(at->parent_fd, at->name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
			return error_set(err, EPROTO, "a part of a file that is not there");
		return 1;
	}
	return clear_place(w, at, err) < 0 ? -err->code : bring_file(w, at, e, err);
}

static int make_file(struct tree_writer *w, const struct tree_place *at, const struct tree_entry *e,
		     struct error *err)
{
	int there;

	if (e->size > INT64_MAX)
		return error_set(err, EPROTO, "impossible size");
	there = prepare_file(w, at, e, err);
	if (there < 0 || tree_entry_copy_meta(e, &w->meta, err) < 0)
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
	if (find_place(w, e->path, &to, err) < 0)
		return -err->code;
	if (clear_place(w, &to, err) < 0)
		return -err->code;
	if (linkat(from_fd, from.name, to.parent_fd, to.name, 0) < 0)
		return error_set(err, errno, "hard link to %s: %s", e->hardlink, strerror(errno));
	return e->size ? open_linked(w, &to, e, err) : 0;
}

static int make_special(struct tree_writer *w, const struct tree_place *at, const struct tree_entry *e,
			struct error *err)
{
	int r;

	if (clear_place(w, at, err) < 0)
		return -err->code;
	if (S_ISLNK(e->mode))
		r = e->target ? symlinkat(e->target, at->parent_fd, at->name) : (errno = EPROTO, -1);
	else
		r = mknodat(at->parent_fd, at->name, (e->mode & S_IFMT) | 0600, e->rdev);
	if (r < 0)
		return error_set(err, errno, "create: %s", strerror(errno));
	return tree_entry_set_meta(-EBADF, at->parent_fd, at->name, e, err);
}

/* What was not here is no error: it may have come and gone between two looks. */
static int remove_gone(struct tree_writer *w, const struct tree_entry *e, struct error *err)
{
	CLEANUP(fd_closep) int fd = -EBADF;
	char path[PATH_MAX], *slash;

	if (tree_path_normalize(e->path, path, err) < 0)
		return -err->code;
	if (!*path)
		return error_set(err, EPROTO, "the top of the tree can't be removed");
	slash = strrchr(path, '/');
	if (slash)
		*slash = '\0';
	fd = tree_places_open(&w->places, slash ? path : "", O_PATH | O_DIRECTORY);
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? 0 :
		       error_set(err, errno, "open its folder: %s", strerror(errno));
	if (tree_folders_note_time(&w->folders, fd, slash ? path : "", err) < 0)
		return -err->code;
	tree_places_forget(&w->places);
	return fd_remove_tree_at(fd, slash ? slash + 1 : path, err);
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
	if (e->change == TREE_GONE)
		return remove_gone(w, e, err);
	if (e->hardlink)
		return make_link(w, e, err);
	if (find_place(w, e->path, &at, err) < 0)
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
		return make_special(w, &at, e, err);
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
	if (r == 0 && w->changes)
		r = tree_xattrs_remove_others(w->fd, &w->meta.xattrs, false, err);
	if (r == 0)
		r = tree_entry_set_meta(w->fd, -EBADF, "", &w->meta, err);
	if (close(TAKE_FD(w->fd)) < 0 && r == 0)
		r = error_set(err, errno, "write: %s", strerror(errno));
	tree_xattrs_clear(&w->meta.xattrs);
	return r;
}

int tree_writer_finish(struct tree_writer *w, struct tree_stats *ret, struct error *err)
{
	if (tree_folders_complete(&w->folders, &w->places, w->changes, err) < 0)
		return -err->code;
	if (ret) {
		*ret = w->stats;
		ret->entries += w->places.made;
	}
	return 0;
}
