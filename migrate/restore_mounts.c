#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "engine/base/fd.h"
#include "engine/rootfs.h"
#include "migrate/restore_mounts.h"

#define PLACE_OF_INSIDE "/tmp"		/* every id may search it */
#define ROOT "root"
#define PROC "proc"

static bool has_own_ids(const struct container *c)
{
	return userns_is_own(&c->spec->userns);
}

static bool is_placed(const struct container *c, const char *point)
{
	return has_own_ids(c) || rootfs_is_volume(c->spec, point);
}

static void place_of(const struct container *c, char buf[RESTORE_MOUNTS_ROOT])
{
	if (has_own_ids(c))
		(void)snprintf(buf, RESTORE_MOUNTS_ROOT, PLACE_OF_INSIDE);
	else
		(void)snprintf(buf, RESTORE_MOUNTS_ROOT, "%s/containers/%s/work", c->node->path, c->name);
}

static void merged_of(const struct container *c, char buf[RESTORE_MOUNTS_ROOT])
{
	(void)snprintf(buf, RESTORE_MOUNTS_ROOT, "%s/containers/%s/merged", c->node->path, c->name);
}

void restore_mounts_root(const struct container *c, char *buf)
{
	if (has_own_ids(c))
		(void)snprintf(buf, RESTORE_MOUNTS_ROOT, PLACE_OF_INSIDE "/" ROOT);
	else
		merged_of(c, buf);
}

void restore_mounts_path(const struct container *c, char *const *points, size_t i, char *buf, size_t size)
{
	char base[RESTORE_MOUNTS_ROOT];

	if (is_placed(c, points[i])) {
		place_of(c, base);
		(void)snprintf(buf, size, "%s/%zu", base, i);
	} else {
		merged_of(c, base);
		(void)snprintf(buf, size, "%s%s", base, points[i]);
	}
}

static bool is_mount(const struct statx *st)
{
	return st->stx_attributes & st->stx_attributes_mask & STATX_ATTR_MOUNT_ROOT;
}

static int place(int root_fd, const char *point, const char *path, bool recursive, struct error *err)
{
	unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
	CLEANUP(fd_closep) int fd = -EBADF, tree = -EBADF;
	struct statx st;
	bool made;

	if (mounts_open(root_fd, point, O_PATH, 0, &fd, err) < 0)
		return -err->code;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &st) < 0 || !is_mount(&st))
		return error_set(err, EBUSY, "something else is in its place: it lies in another volume, where "
				 "somebody replaced a folder just now");
	tree = open_tree(fd, "", flags);
	made = S_ISDIR(st.stx_mode) ? mkdir(path, 0700) == 0 : mknod(path, S_IFREG | 0600, 0) == 0;
	if (tree < 0 || !made || move_mount(tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return error_set(err, errno, "%s", strerror(errno));
	return 0;
}

static int place_proc(struct error *err)
{
	const char *path = PLACE_OF_INSIDE "/" PROC;

	return mkdir(path, 0700) < 0 || mount("proc", path, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0 ?
		error_set(err, errno, "mount /proc: %s", strerror(errno)) : 0;
}

static int place_all(const struct container *c, int root_fd, char *const *points, struct error *err)
{
	char path[RESTORE_MOUNTS_ROOT];

	restore_mounts_root(c, path);
	if (has_own_ids(c) && (place_proc(err) < 0 || place(root_fd, "/", path, false, err) < 0))
		return -err->code;
	for (size_t i = 0; points[i]; i++) {
		restore_mounts_path(c, points, i, path, sizeof(path));
		if (is_placed(c, points[i]) && place(root_fd, points[i], path, !has_own_ids(c), err) < 0)
			return error_wrap(err, "mount point %s", points[i]);
	}
	return 0;
}

int restore_mounts_place(struct restore_mounts *m, char *const *points, struct error *err)
{
	const struct container *c = m->container;
	CLEANUP(fd_closep) int root = -EBADF;
	char path[RESTORE_MOUNTS_ROOT];

	if (!c->spec->n_volumes && !has_own_ids(c))
		return 0;
	place_of(c, path);
	if (mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
		  has_own_ids(c) ? "mode=755" : "mode=700") < 0)
		return error_set(err, errno, "mount a tmpfs on %s: %s", path, strerror(errno));
	m->placed = true;
	merged_of(c, path);
	if (fd_open_dir_at(AT_FDCWD, path, false, 0, &root, err) < 0)
		return -err->code;
	return place_all(c, root, points, err);
}

void restore_mounts_drop(struct restore_mounts *m)
{
	char path[RESTORE_MOUNTS_ROOT];

	place_of(m->container, path);
	if (m->placed)
		(void)umount2(path, MNT_DETACH);
	m->placed = false;
}
