#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "engine/base/fd.h"
#include "engine/cgroup/cgroup_layout.h"

#define MOUNT_POINT "/sys/fs/cgroup"
#define DEPTH_MAX 128 /* of cgroups that a container made */
#define CONTROL_MAX 4096

static const char *const roots[CGROUP_HIERARCHY_MAX_] = {
	[CGROUP_V2] = MOUNT_POINT "/unified", [CGROUP_MEMORY] = MOUNT_POINT "/memory",
	[CGROUP_CPU] = MOUNT_POINT "/cpu",    [CGROUP_CPUACCT] = MOUNT_POINT "/cpuacct",
	[CGROUP_PIDS] = MOUNT_POINT "/pids",  [CGROUP_BLKIO] = MOUNT_POINT "/blkio",
	[CGROUP_CPUSET] = MOUNT_POINT "/cpuset",
	[CGROUP_HUGETLB] = MOUNT_POINT "/hugetlb",
	[CGROUP_NET_CLS] = MOUNT_POINT "/net_cls",
	[CGROUP_NET_PRIO] = MOUNT_POINT "/net_prio",
	[CGROUP_RDMA] = MOUNT_POINT "/rdma",
};

int cgroup_is_pure_v2(bool *ret, struct error *err)
{
	struct statfs st;

	if (statfs(MOUNT_POINT, &st) < 0)
		return error_set(err, errno, "%s: %s: mount the control groups there", MOUNT_POINT,
				 strerror(errno));
	*ret = st.f_type == CGROUP2_SUPER_MAGIC;
	return 0;
}

const char *cgroup_layout_v2_path(bool pure_v2)
{
	return pure_v2 ? MOUNT_POINT : roots[CGROUP_V2];
}

int cgroup_layout_check(const char *parent, const char *name, struct error *err)
{
	const char *at = parent;

	if (*name == '\0' || *name == '.' || strchr(name, '/') || strlen(name) > NAME_MAX)
		return error_set(err, EINVAL, "'%s' is no name for a cgroup", name);
	if (*parent != '/' || strlen(parent) >= PATH_MAX / 2)
		return error_set(err, EINVAL,
				 "'%s' is no parent for cgroups: give an absolute path "
				 "below the root, such as /godwit",
				 parent);
	do {
		size_t len = strcspn(++at, "/");

		if (len == 0 || len > NAME_MAX || *at == '.')
			return error_set(err, EINVAL,
					 "'%s' is no parent for cgroups: the root, empty "
					 "and dotted components are refused",
					 parent);
		at += len;
	} while (*at);
	return 0;
}

int cgroup_layout_root(bool pure_v2, enum cgroup_hierarchy h, int *ret_fd, struct error *err)
{
	const char *path = h == CGROUP_V2 ? cgroup_layout_v2_path(pure_v2) : roots[h];
	long magic = h == CGROUP_V2 ? CGROUP2_SUPER_MAGIC : CGROUP_SUPER_MAGIC;
	CLEANUP(fd_closep) int fd = -EBADF;
	struct statfs st;

	*ret_fd = -EBADF;
	if (pure_v2 && h != CGROUP_V2)
		return 0;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || fstatfs(fd, &st) < 0)
		return error_set(err, errno, "%s: %s", path, strerror(errno));
	if (st.f_type == magic)
		*ret_fd = TAKE_FD(fd);
	return 0;
}

int cgroup_can_limit_pids(bool *ret, struct error *err)
{
	CLEANUP(fd_closep) int fd = -EBADF;
	CLEANUP(freep) char *list = NULL;
	bool pure_v2 = false;

	if (cgroup_is_pure_v2(&pure_v2, err) < 0 ||
	    cgroup_layout_root(pure_v2, pure_v2 ? CGROUP_V2 : CGROUP_PIDS, &fd, err) < 0)
		return -err->code;
	if (pure_v2 && fd_read_file_at(fd, "cgroup.controllers", 4096, &list, NULL, err) < 0)
		return -err->code;
	*ret = fd >= 0 && (!pure_v2 || strstr(list, "pids"));
	return 0;
}

static int open_below(int root_fd, const char *path)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
	};

	return (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
}

int cgroup_layout_open(int root_fd, const char *path, bool create, int *ret_fd, struct error *err)
{
	char part[PATH_MAX];
	int fd = open_below(root_fd, *path ? path + 1 : ".");

	for (const char *at = path; fd < 0 && errno == ENOENT && create && *at;) {
		at += 1 + strcspn(at + 1, "/");
		(void)snprintf(part, sizeof(part), "%.*s", (int)(at - path - 1), path + 1);
		if (mkdirat(root_fd, part, 0755) < 0 && errno != EEXIST)
			return error_set(err, errno, "make cgroup /%s: %s", part, strerror(errno));
		if (*at == '\0')
			fd = open_below(root_fd, path + 1);
		else
			errno = ENOENT;
	}
	if (fd < 0)
		return error_set(err, errno, "open cgroup %s: %s", path, strerror(errno));
	*ret_fd = fd;
	return 0;
}

/* One write a controller: one that the kernel refuses must not keep back the others. */
static void delegate_at(int dirfd, bool all)
{
	static const char *const controllers[] = { "+cpu", "+memory", "+pids", "+io", "+cpuset", "+hugetlb", "+rdma" };
	struct error ignored;

	for (size_t i = 0; i < (all ? sizeof(controllers) / sizeof(*controllers) : 4); i++)
		(void)fd_write_file_at(dirfd, "cgroup.subtree_control", controllers[i], &ignored);
}

static bool delegates_all(int dirfd)
{
	CLEANUP(freep) char *text = NULL;
	char *save = NULL;
	struct error ignored;
	unsigned seen = 0;

	if (fd_read_file_at(dirfd, "cgroup.subtree_control", CONTROL_MAX, &text, NULL, &ignored) <
	    0)
		return false;
	for (char *w = strtok_r(text, " \n", &save); w; w = strtok_r(NULL, " \n", &save))
		seen += !strcmp(w, "cpu") || !strcmp(w, "memory") || !strcmp(w, "pids") || !strcmp(w, "io");
	return seen == 4;
}

int cgroup_layout_delegate(int root_fd, const char *path, bool all, struct error *err)
{
	CLEANUP(fd_closep) int last = -EBADF;
	char part[PATH_MAX];

	if (cgroup_layout_open(root_fd, path, false, &last, err) < 0)
		return -err->code;
	if (!all && delegates_all(last))
		return 0;
	delegate_at(root_fd, all);
	for (const char *at = path; *at;) {
		CLEANUP(fd_closep) int fd = -EBADF;

		at += 1 + strcspn(at + 1, "/");
		(void)snprintf(part, sizeof(part), "%.*s", (int)(at - path), path);
		if (cgroup_layout_open(root_fd, part, false, &fd, err) < 0)
			return -err->code;
		delegate_at(fd, all);
	}
	return 0;
}

/* Both files, each one only when it is empty. */
static int copy_cpuset(int from, int to, struct error *err)
{
	static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };

	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		CLEANUP(freep) char *have = NULL;
		CLEANUP(freep) char *text = NULL;

		if (fd_read_file_at(to, files[i], CONTROL_MAX, &have, NULL, err) < 0)
			return -err->code;
		if (*have != '\n' && *have != '\0')
			continue;
		if (fd_read_file_at(from, files[i], CONTROL_MAX, &text, NULL, err) < 0 ||
		    fd_write_file_at(to, files[i], text, err) < 0)
			return -err->code;
	}
	return 0;
}

int cgroup_layout_fill_cpuset(int root_fd, const char *path, struct error *err)
{
	CLEANUP(fd_closep) int above = -EBADF;
	char part[PATH_MAX];

	if (cgroup_layout_open(root_fd, "", false, &above, err) < 0)
		return -err->code;
	for (const char *at = path; *at;) {
		int fd = -EBADF;

		at += 1 + strcspn(at + 1, "/");
		(void)snprintf(part, sizeof(part), "%.*s", (int)(at - path), path);
		if (cgroup_layout_open(root_fd, part, false, &fd, err) < 0)
			return -err->code;
		if (copy_cpuset(above, fd, err) < 0) {
			fd_close(&fd);
			return -err->code;
		}
		fd_close(&above);
		above = fd;
	}
	return 0;
}

static int remove_level(int parent_fd, const char *name, unsigned depth, struct error *err);

static int remove_inside(int parent_fd, const char *name, unsigned depth, struct error *err)
{
	int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	CLEANUP(dir_closep) DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (!d) {
		int code = errno;

		fd_close(&fd);
		return error_set(err, code, "open cgroup %s: %s", name, strerror(code));
	}
	while ((e = readdir(d))) {
		if (e->d_type != DT_DIR || !strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (remove_level(dirfd(d), e->d_name, depth + 1, err) < 0)
			return error_wrap(err, "%s", name);
	}
	return 0;
}

static int remove_level(int parent_fd, const char *name, unsigned depth, struct error *err)
{
	if (unlinkat(parent_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (errno == EBUSY && depth < DEPTH_MAX) {
		if (remove_inside(parent_fd, name, depth, err) < 0)
			return -err->code;
		if (unlinkat(parent_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
			return 0;
	}
	return error_set(err, errno, "remove cgroup %s: %s", name,
			 errno == EBUSY ? "processes live in it" : strerror(errno));
}

int cgroup_layout_remove(int parent_fd, const char *name, struct error *err)
{
	return remove_level(parent_fd, name, 0, err);
}

static int walk_level(int dirfd_in, cgroup_visit_fn fn, void *ctx, unsigned depth,
		      struct error *err)
{
	int fd = openat(dirfd_in, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP(dir_closep) DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d)
		return error_set(err, errno, "list cgroups: %s", strerror(errno));
	if (depth > DEPTH_MAX)
		return error_set(err, ELOOP, "more than %d cgroups inside each other", DEPTH_MAX);
	if (fn(dirfd(d), ctx, err) < 0)
		return -err->code;
	while ((e = readdir(d))) {
		CLEANUP(fd_closep) int sub = -EBADF;

		if (e->d_type != DT_DIR || !strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		sub = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub < 0 && errno == ENOENT)
			continue; /* removed under our hands */
		if (sub < 0)
			return error_set(err, errno, "open cgroup %s: %s", e->d_name,
					 strerror(errno));
		if (walk_level(sub, fn, ctx, depth + 1, err) < 0)
			return error_wrap(err, "%s", e->d_name);
	}
	return 0;
}

int cgroup_layout_walk(int dirfd, cgroup_visit_fn fn, void *ctx, struct error *err)
{
	return walk_level(dirfd, fn, ctx, 0, err);
}
