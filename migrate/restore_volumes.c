#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "engine/base/fd.h"
#include "engine/rootfs.h"
#include "migrate/restore_volumes.h"

#define PLACE "%s/containers/%s/work"
#define PATH_SIZE (NODE_TEXT_MAX + SPEC_NAME_MAX + 48)

void restore_volumes_path(const struct container *c, char *const *points, size_t i, char *buf, size_t size)
{
	if (rootfs_is_volume(c->spec, points[i]))
		(void)snprintf(buf, size, PLACE "/%zu", c->node->path, c->name, i);
	else
		(void)snprintf(buf, size, "%s/containers/%s/merged%s", c->node->path, c->name, points[i]);
}

static bool is_mount(const struct statx *st)
{
	return st->stx_attributes & st->stx_attributes_mask & STATX_ATTR_MOUNT_ROOT;
}

static int place(int root_fd, const char *point, const char *path, struct error *err)
{
	CLEANUP(fd_closep) int fd = -EBADF, tree = -EBADF;
	struct statx st;
	bool made;

	if (mounts_open(root_fd, point, O_PATH, 0, &fd, err) < 0)
		return -err->code;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &st) < 0 || !is_mount(&st))
		return error_set(err, EBUSY, "something else is in its place: it lies in another volume, where "
				 "somebody replaced a folder just now");
	tree = open_tree(fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
	made = S_ISDIR(st.stx_mode) ? mkdir(path, 0700) == 0 : mknod(path, S_IFREG | 0600, 0) == 0;
	if (tree < 0 || !made || move_mount(tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return error_set(err, errno, "%s", strerror(errno));
	return 0;
}

int restore_volumes_place(const struct container *c, char *const *points, struct error *err)
{
	CLEANUP(fd_closep) int root = -EBADF;
	char path[PATH_SIZE];

	if (!c->spec->n_volumes)
		return 0;
	(void)snprintf(path, sizeof(path), PLACE, c->node->path, c->name);
	if (mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=700") < 0)
		return error_set(err, errno, "mount a tmpfs on %s: %s", path, strerror(errno));
	(void)snprintf(path, sizeof(path), "%s/containers/%s/merged", c->node->path, c->name);
	if (fd_open_dir_at(AT_FDCWD, path, false, 0, &root, err) < 0)
		return -err->code;
	for (size_t i = 0; points[i]; i++) {
		restore_volumes_path(c, points, i, path, sizeof(path));
		if (rootfs_is_volume(c->spec, points[i]) && place(root, points[i], path, err) < 0)
			return error_wrap(err, "volume %s", points[i]);
	}
	return 0;
}

void restore_volumes_drop(const struct container *c)
{
	char path[PATH_SIZE];

	(void)snprintf(path, sizeof(path), PLACE, c->node->path, c->name);
	if (c->spec->n_volumes)
		(void)umount2(path, MNT_DETACH);
}
