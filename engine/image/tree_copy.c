#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/image/tree_walk.h"
#include "engine/image/tree_writer.h"

static int copy_content(struct tree_writer *w, int fd, uint64_t size, struct error *err)
{
	uint64_t offset = 0, len;
	int r;

	while ((r = tree_next_data(fd, size, &offset, &len, err)) > 0) {
		if (tree_writer_copy(w, fd, offset, len, err) < 0)
			return -err->code;
		offset += len;
	}
	return r;
}

static int copy_entry(void *ctx, const struct tree_entry *e, int fd, struct error *err)
{
	struct tree_writer *w = ctx;
	struct tree_entry entry = *e;

	if (e->hardlink)
		entry.size = 0;		/* the content went with the first link */
	if (tree_writer_begin(w, &entry, err) < 0 ||
	    (fd >= 0 && copy_content(w, fd, e->size, err) < 0))
		return -err->code;
	return tree_writer_end(w, err);
}

/* A copy of / to /var/lib would never end. */
static int check_apart(int from_dirfd, int to_dirfd, struct error *err)
{
	CLEANUP(fd_closep) int fd = openat(to_dirfd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat from, at, above;

	if (fd < 0 || fstat(from_dirfd, &from) < 0 || fstat(fd, &above) < 0)
		return error_set(err, errno, "stat: %s", strerror(errno));
	do {
		int parent = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);

		at = above;
		if (at.st_dev == from.st_dev && at.st_ino == from.st_ino) {
			fd_close(&parent);
			return error_set(err, EINVAL, "the folder to copy contains the copy");
		}
		fd_close(&fd);
		fd = parent;
		if (fd < 0 || fstat(fd, &above) < 0)
			return error_set(err, errno, "stat: %s", strerror(errno));
	} while (at.st_dev != above.st_dev || at.st_ino != above.st_ino);
	return 0;
}

int tree_copy(int from_dirfd, int to_dirfd, struct tree_stats *ret, struct error *err)
{
	CLEANUP(tree_writer_freep) struct tree_writer *w = NULL;
	struct tree_stats seen, made;

	if (check_apart(from_dirfd, to_dirfd, err) < 0 ||
	    tree_writer_new(to_dirfd, NULL, &w, err) < 0 ||
	    tree_walk(from_dirfd, true, copy_entry, w, &seen, err) < 0 ||
	    tree_writer_finish(w, &made, err) < 0)
		return error_wrap(err, "copy");
	if (ret) {
		*ret = made;
		ret->sockets_skipped = seen.sockets_skipped;
	}
	return 0;
}

static int measure_entry(void *ctx, const struct tree_entry *e, int fd, struct error *err)
{
	uint64_t *bytes = ctx;

	(void)fd;
	(void)err;
	if (!e->hardlink)
		*bytes += e->allocated_bytes;
	return 0;
}

int tree_measure(int dirfd, struct tree_stats *ret, struct error *err)
{
	struct tree_stats stats = { 0 };
	uint64_t bytes = 0;

	if (tree_walk(dirfd, false, measure_entry, &bytes, &stats, err) < 0)
		return error_wrap(err, "measure");
	stats.bytes = bytes;
	*ret = stats;
	return 0;
}
