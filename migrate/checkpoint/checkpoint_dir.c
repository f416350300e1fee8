#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/fd.h"
#include "engine/image/tree_walk.h"
#include "migrate/checkpoint/checkpoint_dir.h"

#define PATH_LIMIT 4096

/* "a/b/" is b in a. */
static int open_parent(const char *path, struct checkpoint_dir *d, struct error *err)
{
	char copy[PATH_LIMIT], *slash;
	size_t len = strlen(path);

	if (len >= sizeof(copy))
		return error_set(err, ENAMETOOLONG, "%.64s...: the path is too long", path);
	memcpy(copy, path, len + 1);
	while (len > 1 && copy[len - 1] == '/')
		copy[--len] = '\0';
	slash = strrchr(copy, '/');
	if (snprintf(d->name, sizeof(d->name), "%s", slash ? slash + 1 : copy) >= (int)sizeof(d->name) ||
	    snprintf(d->partial, sizeof(d->partial), ".%s.partial", d->name) >= (int)sizeof(d->partial))
		return error_set(err, ENAMETOOLONG, "%.64s...: the name is too long", d->name);
	if (!d->name[0] || !strcmp(d->name, ".") || !strcmp(d->name, ".."))
		return error_set(err, EEXIST, "it exists already; give a new one");
	if (slash)
		slash[slash == copy] = '\0';
	return fd_open_dir_at(AT_FDCWD, slash ? copy : ".", false, 0, &d->parent_fd, err);
}

/* A partial one that nobody holds is of a process that was killed. */
static int remove_left_over(const struct checkpoint_dir *d, struct error *err)
{
	CLEANUP(fd_closep) int old = openat(d->parent_fd, d->partial, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (old >= 0 && flock(old, LOCK_EX | LOCK_NB) < 0)
		return error_set(err, EBUSY, "another checkpoint is being written there; wait for it");
	return fd_remove_tree_at(d->parent_fd, d->partial, err);
}

static int create(const char *path, struct checkpoint_dir *d, struct error *err)
{
	struct stat st;

	if (open_parent(path, d, err) < 0)
		return -err->code;
	if (fstatat(d->parent_fd, d->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return error_set(err, EEXIST, "it exists already; give a new one");
	if (remove_left_over(d, err) < 0)
		return -err->code;
	if (mkdirat(d->parent_fd, d->partial, 0700) < 0)
		return error_set(err, errno, "make it: %s", strerror(errno));
	if (fd_open_dir_at(d->parent_fd, d->partial, false, 0, &d->fd, err) < 0)
		return -err->code;
	if (flock(d->fd, LOCK_EX | LOCK_NB) < 0)
		return error_set(err, EBUSY, "another checkpoint is being written there; wait for it");
	return 0;
}

int checkpoint_dir_create(const char *path, struct checkpoint_dir *ret, struct error *err)
{
	CLEANUP(checkpoint_dir_closep) struct checkpoint_dir d = CHECKPOINT_DIR_EMPTY;

	if (create(path, &d, err) < 0)
		return error_wrap(err, "checkpoint directory %s", path);
	*ret = d;
	d = (struct checkpoint_dir)CHECKPOINT_DIR_EMPTY;
	return 0;
}

static int sync_one(int fd, const char *path, struct error *err)
{
	return fsync(fd) < 0 ? error_set(err, errno, "write %s to disk: %s", path, strerror(errno)) : 0;
}

/* A folder comes without a descriptor. */
static int sync_entry(void *ctx, const struct tree_entry *entry, int fd, struct error *err)
{
	const struct checkpoint_dir *d = ctx;
	CLEANUP(fd_closep) int dir = -EBADF;

	if (fd >= 0)
		return sync_one(fd, entry->path, err);
	dir = openat(d->fd, entry->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return dir < 0 ? 0 : sync_one(dir, entry->path, err);
}

int checkpoint_dir_sync(const struct checkpoint_dir *d, struct error *err)
{
	return tree_walk(d->fd, true, sync_entry, (void *)(uintptr_t)d, NULL, err);
}

int checkpoint_dir_appear(const struct checkpoint_dir *d, struct error *err)
{
	if (renameat(d->parent_fd, d->partial, d->parent_fd, d->name) < 0)
		return error_set(err, errno, "name it %s: %s", d->name, strerror(errno));
	if (fsync(d->parent_fd) == 0)
		return 0;
	(void)error_set(err, errno, "write the folder around it to disk: %s", strerror(errno));
	(void)renameat(d->parent_fd, d->name, d->parent_fd, d->partial);
	return -err->code;
}

void checkpoint_dir_discard(const struct checkpoint_dir *d)
{
	struct error ignored;

	if (d->fd >= 0)
		(void)fd_remove_tree_at(d->parent_fd, d->partial, &ignored);
}

void checkpoint_dir_closep(struct checkpoint_dir *d)
{
	fd_close(&d->fd);
	fd_close(&d->parent_fd);
}
