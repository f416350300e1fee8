#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "engine/base/fd.h"
#include "engine/image/image.h"
#include "engine/mounts.h"
#include "engine/network/hosts.h"
#include "engine/network/placement.h"
#include "engine/rootfs.h"

#define SAFE (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

/* STAGED: native, but the masks that lie in it need it while a restore is
 * prepared. */
enum mount_kind { NATIVE, STAGED, EXTERNAL };

struct fs_mount {
	const char *path, *type;
	const char *options;		/* comma-separated, NULL for none */
	unsigned attrs;
	enum mount_kind kind;
};

/* Parents before children. */
static const struct fs_mount fs_mounts[] = {
	{ "/proc", "proc", NULL, SAFE, STAGED },
	{ "/dev", "tmpfs", "mode=755", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, EXTERNAL },
	{ "/dev/pts", "devpts", "newinstance,ptmxmode=0666,mode=0620",
	  MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, NATIVE },
	{ "/dev/shm", "tmpfs", "mode=1777", SAFE, EXTERNAL },	/* and a size */
	{ "/dev/mqueue", "mqueue", NULL, SAFE, NATIVE },
	{ "/sys", "sysfs", NULL, SAFE | MOUNT_ATTR_RDONLY, EXTERNAL },
};

const char *const rootfs_tmpfs[ROOTFS_TMPFS_MAX + 1] = { "/dev/shm" };

#define SHM_BYTES (64ull << 20)
#define DEV_BYTES (64ull << 20)
#define TTY_GID 5

#define CGROUP_VIEW_PARENT "/sys/fs"
#define CGROUP_VIEW CGROUP_VIEW_PARENT "/cgroup"

/* Bound over themselves, read-only. Parts of proc: CRIU makes them. */
static const char *const readonly_paths[] = {
	"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};

#define NETWORK_SWITCHES "/proc/sys/net"

/* Covered: files by /dev/null, folders by an empty tmpfs. */
static const char *const masked_paths[] = {
	"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
	"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
	"/sys/dev/block", "/sys/devices/virtual/powercap", "/sys/firmware",
};

static const struct { const char *name; unsigned major, minor; } device_nodes[] = {
	{ "null", 1, 3 }, { "zero", 1, 5 }, { "full", 1, 7 },
	{ "random", 1, 8 }, { "urandom", 1, 9 }, { "tty", 5, 0 },
};

static const struct { const char *name, *target; } device_links[] = {
	{ "fd", "/proc/self/fd" }, { "stdin", "/proc/self/fd/0" }, { "stdout", "/proc/self/fd/1" },
	{ "stderr", "/proc/self/fd/2" }, { "ptmx", "pts/ptmx" }, { "core", "/proc/kcore" },
};

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

static uint64_t shm_bytes(const struct spec *s)
{
	return s->shm_bytes ? s->shm_bytes : SHM_BYTES;
}

/* Whose files those are that nobody has made: ids of the host. */
static int make_fs(const struct fs_mount *m, const struct spec *s, uint64_t bytes, int *ret_fd, struct error *err)
{
	uint32_t gid = id_map_host(&s->userns.gids, 0), tty = id_map_host(&s->userns.gids, TTY_GID);
	char options[128] = "";

	if (!strcmp(m->type, "devpts"))
		(void)snprintf(options, sizeof(options), "%s,gid=%u", m->options, tty == ID_NONE ? gid : tty);
	else if (!strcmp(m->type, "tmpfs"))
		(void)snprintf(options, sizeof(options), "%s,size=%llu,uid=%u,gid=%u", m->options,
			       (unsigned long long)bytes, id_map_host(&s->userns.uids, 0), gid);
	return mounts_make_fs(m->type, *options ? options : NULL, m->attrs, ret_fd, err);
}

static const struct fs_mount *find_tmpfs(const char *path)
{
	for (size_t i = 0; i < COUNT(fs_mounts); i++)
		if (!strcmp(fs_mounts[i].path, path))
			return &fs_mounts[i];
	abort();			/* rootfs_tmpfs has a path that isn't mounted */
}

int rootfs_make_tmpfs(const struct spec *s, const char *path, int *ret_fd, struct error *err)
{
	return make_fs(find_tmpfs(path), s, 2 * shm_bytes(s), ret_fd, err);
}

int rootfs_limit_tmpfs(const struct spec *s, const char *path, int mount_fd, struct error *err)
{
	CLEANUP(fd_closep) int fs = fspick(mount_fd, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH);
	char size[32];

	(void)snprintf(size, sizeof(size), "%llu", (unsigned long long)shm_bytes(s));
	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "size", size, 0) < 0 ||
	    fsconfig(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) < 0)
		return error_set(err, errno == EINVAL ? EBUSY : errno, "limit %s to %s bytes: %s", path, size,
				 errno == EINVAL ? "it holds more" : strerror(errno));
	return 0;
}

/* The mount that is there for a path already, duplicated, or -EBADF. */
static int prepared_for(const char *path, const int *tmpfs)
{
	for (size_t i = 0; tmpfs && rootfs_tmpfs[i]; i++)
		if (!strcmp(rootfs_tmpfs[i], path) && tmpfs[i] >= 0)
			return fcntl(tmpfs[i], F_DUPFD_CLOEXEC, 0);
	return -EBADF;
}

static int mount_fs(int root_fd, const struct fs_mount *m, const struct spec *s, const int *tmpfs,
		    struct error *err)
{
	int fd = prepared_for(m->path, tmpfs), r = 0;

	if (mounts_make_point(root_fd, m->path, true, err) < 0)
		r = -err->code;
	else if (fd < 0)
		r = make_fs(m, s, !strcmp(m->path, "/dev/shm") ? shm_bytes(s) : DEV_BYTES, &fd, err);
	if (r < 0)
		return error_wrap(err, "mount %s", m->path);
	return mounts_place(fd, root_fd, m->path, err);
}

static int fill_dev(int root_fd, struct error *err)
{
	CLEANUP(fd_closep) int dev = -EBADF;
	mode_t old = umask(0);
	int r = mounts_open(root_fd, "/dev", O_RDONLY | O_DIRECTORY, 0, &dev, err);

	for (size_t i = 0; r == 0 && i < COUNT(device_nodes); i++)
		if (mknodat(dev, device_nodes[i].name, S_IFCHR | 0666,
			    makedev(device_nodes[i].major, device_nodes[i].minor)) < 0)
			r = error_set(err, errno, "make /dev/%s: %s", device_nodes[i].name, strerror(errno));
	for (size_t i = 0; r == 0 && i < COUNT(device_links); i++)
		if (symlinkat(device_links[i].target, dev, device_links[i].name) < 0)
			r = error_set(err, errno, "make /dev/%s: %s", device_links[i].name, strerror(errno));
	(void)umask(old);
	return r;
}

/* The path ends below the descriptor, so that it leads into what gets mounted
 * there and not to what that covers. */
static int mount_cgroup_view(int root_fd, bool writable, struct error *err)
{
	CLEANUP(fd_closep) int at = -EBADF;
	char path[64];

	if (mounts_open(root_fd, CGROUP_VIEW_PARENT, O_PATH | O_DIRECTORY, 0, &at, err) < 0)
		return -err->code;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", at, &CGROUP_VIEW[sizeof(CGROUP_VIEW_PARENT)]);
	return cgroup_mount_view(path, writable, err);
}

static int mount_table(int root_fd, const struct spec *s, enum rootfs_for what, const int *tmpfs,
		       struct error *err)
{
	for (size_t i = 0; i < COUNT(fs_mounts); i++) {
		const struct fs_mount *m = &fs_mounts[i];
		bool is_dev = !strcmp(m->path, "/dev");

		if (what == ROOTFS_FOR_RESTORE && m->kind == NATIVE) {
			if (!strncmp(m->path, "/dev/", 5) && mounts_make_point(root_fd, m->path, true, err) < 0)
				return -err->code;
			continue;
		}
		if (mount_fs(root_fd, m, s, tmpfs, err) < 0 || (is_dev && fill_dev(root_fd, err) < 0))
			return -err->code;
	}
	return mount_cgroup_view(root_fd, s->nested, err);
}

/* A nested container's engine sets its network namespace's own switches, such as forwarding. */
static int make_read_only(int root_fd, bool nested, struct error *err)
{
	CLEANUP(fd_closep) int net = -EBADF;

	if (nested && mounts_open(root_fd, NETWORK_SWITCHES, O_PATH | O_DIRECTORY, 0, &net, err) < 0)
		return -err->code;
	for (size_t i = 0; i < COUNT(readonly_paths); i++)
		if (mounts_make_read_only(root_fd, readonly_paths[i], SAFE, err) < 0)
			return -err->code;
	return nested ? mounts_bind(net, false, SAFE, -EBADF, root_fd, NETWORK_SWITCHES, err) : 0;
}

static int mask_paths(int root_fd, struct error *err)
{
	CLEANUP(fd_closep) int null_fd = -EBADF;

	if (mounts_open(root_fd, "/dev/null", O_PATH, 0, &null_fd, err) < 0)
		return -err->code;
	for (size_t i = 0; i < COUNT(masked_paths); i++)
		if (mounts_mask(root_fd, masked_paths[i], null_fd, err) < 0)
			return error_wrap(err, "mask %s", masked_paths[i]);
	return 0;
}

static int mount_volume(int root_fd, const struct spec_volume *v, int userns_fd, struct error *err)
{
	uint64_t attrs = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (v->read_only ? MOUNT_ATTR_RDONLY : 0);
	CLEANUP(fd_closep) int source = open(v->source, O_PATH | O_CLOEXEC);
	struct stat st;

	if (source < 0 || fstat(source, &st) < 0)
		return error_set(err, errno, "volume %s: %s", v->source, strerror(errno));
	if (mounts_make_point(root_fd, v->destination, S_ISDIR(st.st_mode), err) < 0)
		return -err->code;
	if (mounts_bind(source, true, attrs, v->id_mapped ? userns_fd : -EBADF, root_fd, v->destination, err) < 0)
		return error_wrap(err, "volume %s", v->source);
	return 0;
}

/* A folder of the state directory with its ids mapped, on disk they are those inside,
 * covers another one. An overlay takes its layers from there: overlayfs.rst. */
static int cover(const char *path, const char *folder, int userns_fd, struct error *err)
{
	CLEANUP(fd_closep) int tree = open_tree(AT_FDCWD, folder, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (tree < 0 || mounts_map_ids(tree, false, userns_fd, err) < 0)
		return tree < 0 ? error_set(err, errno, "%s: %s", folder, strerror(errno)) :
				  error_wrap(err, "%s", folder);
	if (move_mount(tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return error_set(err, errno, "mount on %s: %s", path, strerror(errno));
	return 0;
}

static bool is_on_overlay(const struct node *node)
{
	struct statfs st;

	return fstatfs(node->state_fd, &st) == 0 && st.f_type == OVERLAYFS_SUPER_MAGIC;
}

/* Paths are relative to the state directory: names need no escaping there. By
 * path and not by descriptor, which would lead to the mounts of the namespace
 * that it was opened in. */
static int mount_overlay_of(const struct container *c, const char *lower, const char *own, struct error *err)
{
	char options[1024], target[SPEC_NAME_MAX + 32];

	(void)snprintf(options, sizeof(options), "lowerdir=%s,upperdir=%s/upper,workdir=%s/work,"
		       "index=off,metacopy=off,redirect_dir=off,xino=off", lower, own, own);
	(void)snprintf(target, sizeof(target), "containers/%s/merged", c->name);
	if (mount("overlay", target, "overlay", 0, options) < 0)
		return error_set(err, errno, "mount overlay of image '%s': %s%s", c->spec->image, strerror(errno),
				 errno == ENODEV ? "; the kernel needs CONFIG_OVERLAY_FS" :
				 is_on_overlay(c->node) ? "; the state directory is on an overlay file system: put "
				 "it on another, in a container on a volume" : "");
	return 0;
}

static int mount_overlay(const struct container *c, int userns_fd, struct error *err)
{
	char lower[SPEC_NAME_MAX + 160], folder[SPEC_NAME_MAX + 32], own[SPEC_NAME_MAX + 40];
	int r;

	if (image_check_name(c->spec->image, err) < 0)
		return -err->code;
	if (chdir(c->node->path) < 0)
		return error_set(err, errno, "enter %s: %s", c->node->path, strerror(errno));
	(void)snprintf(lower, sizeof(lower), "images/%s/rootfs", c->spec->image);
	(void)snprintf(folder, sizeof(folder), "containers/%s", c->name);
	if (userns_fd < 0)
		return mount_overlay_of(c, lower, folder, err);
	(void)snprintf(own, sizeof(own), "%s/work", folder);
	if (cover(lower, lower, userns_fd, err) < 0 || cover(own, folder, userns_fd, err) < 0)
		return error_wrap(err, "user namespace: %s", c->node->path);
	r = mount_overlay_of(c, lower, own, err);
	(void)umount2(lower, MNT_DETACH);	/* the overlay has mounts of its own */
	(void)umount2(own, MNT_DETACH);
	return r;
}

static int open_merged(const struct container *c, int *ret_fd, struct error *err)
{
	char path[NODE_TEXT_MAX + SPEC_NAME_MAX + 32];

	(void)snprintf(path, sizeof(path), "%s/containers/%s/merged", c->node->path, c->name);
	return fd_open_dir_at(AT_FDCWD, path, false, 0, ret_fd, err);
}

int rootfs_mount(const struct container *c, enum rootfs_for what, const int tmpfs[ROOTFS_TMPFS_MAX],
		 int userns_fd, struct error *err)
{
	CLEANUP(fd_closep) int root = -EBADF;

	if (mount_overlay(c, userns_fd, err) < 0 || open_merged(c, &root, err) < 0 ||
	    mount_table(root, c->spec, what, tmpfs, err) < 0)
		return -err->code;
	for (size_t i = 0; i < c->spec->n_volumes; i++)
		if (mount_volume(root, &c->spec->volumes[i], userns_fd, err) < 0)
			return -err->code;
	if (what == ROOTFS_FOR_START && make_read_only(root, c->spec->nested, err) < 0)
		return -err->code;
	return mask_paths(root, err);
}

/* In the container's own layer only: what is on a volume is its owner's. */
static int write_etc_file(int root_fd, const char *path, const char *text, struct error *err)
{
	CLEANUP(fd_closep) int etc = -EBADF, fd = -EBADF;
	struct statx root_st, etc_st;

	if (mounts_open(root_fd, "/etc", O_RDONLY | O_DIRECTORY, 0, &etc, err) < 0)
		return -err->code;
	if (statx(root_fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &root_st) < 0 ||
	    statx(etc, "", AT_EMPTY_PATH, STATX_MNT_ID, &etc_st) < 0)
		return error_set(err, errno, "look at /etc: %s", strerror(errno));
	if (etc_st.stx_mnt_id != root_st.stx_mnt_id)
		return 0;
	if (unlinkat(etc, path, 0) < 0 && errno != ENOENT)
		return errno == EBUSY ? 0 /* a volume itself */ :
			error_set(err, errno, "replace /etc/%s: %s", path, strerror(errno));
	fd = openat(etc, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return error_set(err, errno, "write /etc/%s: %s", path, strerror(errno));
	if (fchmod(fd, 0644) < 0 || fd_write_full(fd, text, strlen(text), err) < 0)
		return error_wrap(err, "write /etc/%s", path);
	return 0;
}

int rootfs_write_etc(const struct container *c, struct error *err)
{
	CLEANUP(fd_closep) int root = -EBADF;
	CLEANUP(freep) char *resolv = NULL;
	CLEANUP(freep) char *others = NULL;
	CLEANUP(freep) char *all = NULL;
	const struct spec *s = c->spec;
	char hosts[512], hostname[80];
	struct error ignored;

	(void)snprintf(hosts, sizeof(hosts), "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n"
		       "%.*s\t%s\n", (int)strcspn(s->endpoint.address, "/"), s->endpoint.address, s->hostname);
	(void)snprintf(hostname, sizeof(hostname), "%s\n", s->hostname);
	if (open_merged(c, &root, err) < 0 || mounts_make_point(root, "/etc", true, err) < 0)
		return -err->code;
	if (fd_read_file_at(-EBADF, "/etc/resolv.conf", 65536, &resolv, NULL, &ignored) == 0 &&
	    write_etc_file(root, "resolv.conf", resolv, err) < 0)
		return -err->code;
	if (s->endpoint.network[0] && (placement_hosts(c->node, s->endpoint.network, &others, err) < 0 ||
				       hosts_replace(hosts, others, &all, err) < 0))
		return -err->code;
	if (write_etc_file(root, "hosts", all ? all : s->endpoint.address[0] ? hosts : "127.0.0.1\tlocalhost\n",
			   err) < 0)
		return -err->code;
	return write_etc_file(root, "hostname", hostname, err);
}

int rootfs_pivot(const struct container *c, struct error *err)
{
	CLEANUP(fd_closep) int root = -EBADF;

	if (open_merged(c, &root, err) < 0)
		return -err->code;
	if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
	    umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return error_set(err, errno, "make it the root: %s", strerror(errno));
	return 0;
}

static bool starts_with_path(const char *path, const char *prefix)
{
	size_t n = strlen(prefix);

	return !strncmp(path, prefix, n) && (path[n] == '\0' || path[n] == '/');
}

bool rootfs_is_volume(const struct spec *s, const char *path)
{
	for (size_t i = 0; i < s->n_volumes; i++)
		if (starts_with_path(path, s->volumes[i].destination))
			return true;
	return false;
}

bool rootfs_is_external(const struct spec *s, const char *path)
{
	for (size_t i = 0; i < COUNT(fs_mounts); i++)
		if (fs_mounts[i].kind == EXTERNAL && !strcmp(path, fs_mounts[i].path))
			return true;
	for (size_t i = 0; i < COUNT(masked_paths); i++)
		if (!strcmp(path, masked_paths[i]))
			return true;
	return rootfs_is_volume(s, path) || starts_with_path(path, CGROUP_VIEW);
}

/* Field 5 of each line; blanks inside are written as \040. */
int rootfs_external_mounts(const struct container *c, pid_t pid, char ***ret, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	char path[48], *save = NULL, point[4096];
	char **list = calloc(1, sizeof(*list));
	size_t n = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/mountinfo", (int)pid);
	if (!list || fd_read_file_at(-EBADF, path, 1 << 20, &text, NULL, err) < 0) {
		free(list);
		return list ? -err->code : error_set(err, ENOMEM, "out of memory");
	}
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char **more;

		if (sscanf(line, "%*s %*s %*s %*s %4095s", point) != 1 || !rootfs_is_external(c->spec, point))
			continue;
		more = reallocarray(list, n + 2, sizeof(*list));
		if (!more)
			break;
		list = more;
		list[n++] = strdup(point);
		list[n] = NULL;
	}
	*ret = list;
	return 0;
}
