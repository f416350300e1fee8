#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "engine/base/cleanup.h"
#include "engine/mounts.h"

#define SAFE (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

int mounts_open(int root_fd, const char *path, int flags, mode_t mode, int *ret_fd,
		struct error *err)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.mode = flags & O_CREAT ? mode : 0,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	long fd = syscall(SYS_openat2, root_fd, path, &how, sizeof(how));

	if (fd < 0)
		return error_set(err, errno, "open %s in the container: %s", path, strerror(errno));
	*ret_fd = (int)fd;
	return 0;
}

/* mkdir -p below root; the last part becomes a file when dir is false. */
int mounts_make_point(int root_fd, const char *path, bool dir, struct error *err)
{
	CLEANUP(freep) char *copy = strdup(path);
	struct error ignored;
	int fd = -EBADF, r;

	for (char *p = copy ? strchr(copy + 1, '/') : NULL;; p = strchr(p + 1, '/')) {
		bool last = !p, as_dir = dir || !last;

		if (p)
			*p = '\0';
		r = mounts_open(root_fd, copy, O_PATH, 0, &fd, &ignored);
		if (r == -ENOENT) {
			char *slash = strrchr(copy, '/');
			CLEANUP(fd_closep) int parent = -EBADF;

			*slash = '\0';
			r = mounts_open(root_fd, *copy ? copy : "/", O_PATH | O_DIRECTORY, 0, &parent, err);
			*slash = '/';
			if (r == 0 && (as_dir ? mkdirat(parent, slash + 1, 0755) :
				       mknodat(parent, slash + 1, S_IFREG | 0644, 0)) < 0 && errno != EEXIST)
				r = error_set(err, errno, "make mount point %s: %s", copy, strerror(errno));
			if (r < 0)
				return r;
		}
		fd_close(&fd);
		if (last)
			return 0;
		*p = '/';
	}
}

/* Puts a detached mount (consumed) at a path of the container. */
int mounts_place(int mount_fd, int root_fd, const char *path, struct error *err)
{
	CLEANUP(fd_closep) int owned = mount_fd, at = -EBADF;

	if (mounts_open(root_fd, path, O_PATH, 0, &at, err) < 0)
		return -err->code;
	if (move_mount(owned, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return error_set(err, errno, "mount on %s: %s", path, strerror(errno));
	return 0;
}

static int set_option(int fs, char *option)
{
	char *value = strchr(option, '=');

	if (value)
		*value++ = '\0';
	return value ? fsconfig(fs, FSCONFIG_SET_STRING, option, value, 0) :
		       fsconfig(fs, FSCONFIG_SET_FLAG, option, NULL, 0);
}

/* A new, detached file system. */
int mounts_make_fs(const char *type, const char *options, unsigned attrs, int *ret_fd,
		   struct error *err)
{
	return mounts_make_fs_from(type, NULL, options, attrs, ret_fd, err);
}

int mounts_make_fs_from(const char *type, const char *source, const char *options, unsigned attrs,
			int *ret_fd, struct error *err)
{
	CLEANUP(fd_closep) int fs = fsopen(type, FSOPEN_CLOEXEC);
	CLEANUP(freep) char *copy = options ? strdup(options) : NULL;
	char *save = NULL;
	int fd;

	if (fs < 0)
		return error_set(err, errno, "file system %s: %s", type, strerror(errno));
	if (source && fsconfig(fs, FSCONFIG_SET_STRING, "source", source, 0) < 0)
		return error_set(err, errno, "file system %s: source %s: %s", type, source, strerror(errno));
	for (char *o = copy ? strtok_r(copy, ",", &save) : NULL; o; o = strtok_r(NULL, ",", &save))
		if (set_option(fs, o) < 0)
			return error_set(err, errno, "file system %s: option %s: %s", type, o, strerror(errno));
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return error_set(err, errno, "file system %s: %s", type, strerror(errno));
	fd = fsmount(fs, FSMOUNT_CLOEXEC, attrs);
	if (fd < 0)
		return error_set(err, errno, "file system %s: mount: %s", type, strerror(errno));
	*ret_fd = fd;
	return 0;
}

int mounts_map_ids(int tree_fd, bool recursive, int userns_fd, struct error *err)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)userns_fd };

	if (mount_setattr(tree_fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr, sizeof(attr)) < 0)
		return error_set(err, errno, "map its ids: %s%s", strerror(errno),
				 errno == EINVAL ? ": its file system can't be idmapped" : "");
	return 0;
}

/* Binds what source_fd (borrowed, may be O_PATH) refers to, with more attributes. */
int mounts_bind(int source_fd, bool recursive, uint64_t attrs, int userns_fd, int root_fd,
		const char *path, struct error *err)
{
	struct mount_attr attr = { .attr_set = attrs };
	CLEANUP(fd_closep) int tree = open_tree(source_fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC |
						AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0));

	if (tree < 0)
		return error_set(err, errno, "bind %s: %s", path, strerror(errno));
	if (attrs && mount_setattr(tree, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr,
				   sizeof(attr)) < 0)
		return error_set(err, errno, "bind %s: set attributes: %s", path, strerror(errno));
	if (userns_fd >= 0 && mounts_map_ids(tree, recursive, userns_fd, err) < 0)
		return -err->code;
	return mounts_place(TAKE_FD(tree), root_fd, path, err);
}

int mounts_make_read_only(int root_fd, const char *path, uint64_t attrs, struct error *err)
{
	CLEANUP(fd_closep) int fd = -EBADF;
	int r = mounts_open(root_fd, path, O_PATH, 0, &fd, err);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	return mounts_bind(fd, true, attrs | MOUNT_ATTR_RDONLY, -EBADF, root_fd, path, err);
}

int mounts_mask(int root_fd, const char *path, int null_fd, struct error *err)
{
	CLEANUP(fd_closep) int fd = -EBADF;
	struct stat st;
	int empty = -EBADF;
	int r = mounts_open(root_fd, path, O_PATH, 0, &fd, err);

	if (r == -ENOENT)
		return 0;
	if (r < 0 || fstat(fd, &st) < 0)
		return -err->code;
	if (!S_ISDIR(st.st_mode))
		return mounts_bind(null_fd, false, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, -EBADF, root_fd,
				   path, err);
	if (mounts_make_fs("tmpfs", "mode=755,size=4k,nr_inodes=4", SAFE | MOUNT_ATTR_RDONLY, &empty, err) < 0)
		return -err->code;
	return mounts_place(empty, root_fd, path, err);
}
