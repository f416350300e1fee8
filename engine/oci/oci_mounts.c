#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/cgroup/cgroup.h"
#include "engine/image/tree.h"
#include "engine/mounts.h"
#include "engine/oci/oci_mounts.h"
#include "engine/oci/oci_namespaces.h"

void oci_mounts_close(struct oci_mounts *m)
{
	fd_close(&m->root_fd);
	for (size_t i = 0; m->sources && i < m->spec->mounts.n; i++)
		fd_close(&m->sources[i]);
	free(m->sources);
	m->sources = NULL;
}

static int set_attributes(int tree, bool recursive, struct mount_attr attr, struct error *err)
{
	if (!attr.attr_set && !attr.attr_clr && !attr.propagation)
		return 0;
	if (mount_setattr(tree, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr, sizeof(attr)) < 0)
		return error_set(err, errno, "set mount attributes: %s", strerror(errno));
	return 0;
}

static int map_ids(int tree, const struct oci_mount *m, const struct oci_mount_options *o, struct error *err)
{
	CLEANUP(fd_closep) int ns = -EBADF;
	struct userns maps;

	if (oci_namespaces_maps(&m->uid_mappings, &m->gid_mappings, &maps, err) < 0 ||
	    userns_create(&maps, &ns, NULL, err) < 0)
		return -err->code;
	return mounts_map_ids(tree, o->id_map_recursive, ns, err);
}

/* --- in the parent ----------------------------------------------------------------- */

static int open_source(const struct oci_mount *m, const struct oci_mount_options *o, int *ret_fd, struct error *err)
{
	CLEANUP(fd_closep) int tree = open_tree(AT_FDCWD, m->source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC |
						(o->recursive ? AT_RECURSIVE : 0));
	uint64_t propagation = o->propagation ? o->propagation : MS_PRIVATE;

	if (tree < 0)
		return error_set(err, errno, "source %s: %s", m->source, strerror(errno));
	if (m->uid_mappings.n && map_ids(tree, m, o, err) < 0)
		return -err->code;
	if (set_attributes(tree, !o->propagation || o->propagation_recursive,
			   (struct mount_attr){ .propagation = propagation }, err) < 0 ||
	    set_attributes(tree, false, (struct mount_attr){ .attr_set = o->set, .attr_clr = o->clear }, err) < 0 ||
	    set_attributes(tree, true, (struct mount_attr){ .attr_set = o->rec_set, .attr_clr = o->rec_clear },
	    err) < 0)
		return -err->code;
	*ret_fd = TAKE_FD(tree);
	return 0;
}

static int open_sources(struct oci_mounts *m, struct error *err)
{
	size_t i = 0;

	OCI_EACH(struct oci_mount, one, m->spec->mounts) {
		struct oci_mount_options o;

		if (oci_mount_options_parse(one, &o, err) < 0)
			return -err->code;
		if (o.bind && open_source(one, &o, &m->sources[i], err) < 0)
			return error_wrap(err, "mounts: %s", one->destination);
		i++;
	}
	return 0;
}

static const struct { const char *name; uint64_t flag; } propagations[] = {
	{ "", MS_PRIVATE },    { "private", MS_PRIVATE }, { "rprivate", MS_PRIVATE },
	{ "slave", MS_SLAVE }, { "rslave", MS_SLAVE },	  { "shared", MS_SHARED },
	{ "rshared", MS_SHARED }, { "unbindable", MS_UNBINDABLE }, { "runbindable", MS_UNBINDABLE },
};

static int find_propagation(const char *name, uint64_t *ret, struct error *err)
{
	for (size_t i = 0; i < sizeof(propagations) / sizeof(*propagations); i++)
		if (!strcmp(propagations[i].name, name ? name : "")) {
			*ret = propagations[i].flag;
			return 0;
		}
	return error_set(err, EINVAL, "linux.rootfsPropagation: '%s' is unknown", name);
}

static bool has_new(const struct oci_linux *l, const char *type)
{
	OCI_EACH(struct oci_namespace, ns, l->namespaces)
		if (!strcmp(ns->type, type))
			return true;
	return false;
}

/* Shared and unbindable can only be said of what is mounted: oci_mounts_finish. */
static int open_root(struct oci_mounts *m, const char *rootfs, struct error *err)
{
	uint64_t flag = m->root_propagation == MS_SHARED || m->root_propagation == MS_SLAVE ? MS_SLAVE : MS_PRIVATE;

	m->root_fd = open_tree(AT_FDCWD, rootfs, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	if (m->root_fd < 0)
		return error_set(err, errno, "root.path: %s: %s", rootfs, strerror(errno));
	return set_attributes(m->root_fd, true, (struct mount_attr){ .propagation = flag }, err);
}

int oci_mounts_open(const struct oci_spec *spec, const char *rootfs, struct oci_mounts *ret, struct error *err)
{
	const char *label = spec->linux_->mount_label;

	*ret = (struct oci_mounts){ .spec = spec, .root_fd = -EBADF, .cgroup_namespace = has_new(spec->linux_,
		"cgroup") };
	if (label && *label)
		return error_set(err, ENOTSUP, "linux.mountLabel: '%s': mounts are not labelled here", label);
	if (find_propagation(spec->linux_->rootfs_propagation, &ret->root_propagation, err) < 0)
		return -err->code;
	ret->sources = calloc(spec->mounts.n + 1, sizeof(*ret->sources));
	if (!ret->sources)
		return error_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < spec->mounts.n; i++)
		ret->sources[i] = -EBADF;
	if (open_root(ret, rootfs, err) == 0 && open_sources(ret, err) == 0)
		return 0;
	oci_mounts_close(ret);
	return -err->code;
}

/* --- in the init -------------------------------------------------------------------- */

static int mount_cgroups(const struct oci_mounts *m, const char *path, const struct oci_mount_options *o,
			 struct error *err)
{
	CLEANUP(fd_closep) int at = -EBADF, ours = open("/proc/self/ns/cgroup", O_RDONLY | O_CLOEXEC);
	CLEANUP(freep) char *copy = strdup(path);
	char target[4200];
	char *slash;
	int r;

	if (!copy || ours < 0)
		return error_set(err, errno, "cgroup namespace: %s", strerror(errno));
	slash = strrchr(copy, '/');
	if (!slash)
		return error_set(err, EINVAL, "not absolute");
	*slash = '\0';
	if (mounts_make_point(m->root_fd, path, true, err) < 0 ||
	    mounts_open(m->root_fd, *copy ? copy : "/", O_PATH | O_DIRECTORY, 0, &at, err) < 0)
		return -err->code;
	(void)snprintf(target, sizeof(target), "/proc/self/fd/%d/%s", at, slash + 1);
	/* The container's own part only, also where it sees the host's paths in /proc. */
	if (!m->cgroup_namespace && unshare(CLONE_NEWCGROUP) < 0)
		return error_set(err, errno, "cgroup namespace: %s", strerror(errno));
	r = cgroup_mount_view(target, !(o->set & MOUNT_ATTR_RDONLY), err);
	if (!m->cgroup_namespace && setns(ours, CLONE_NEWCGROUP) < 0 && r == 0)
		r = error_set(err, errno, "cgroup namespace: %s", strerror(errno));
	return r;
}

static int copy_up(int root_fd, const char *path, int fs, struct error *err)
{
	CLEANUP(fd_closep) int from = -EBADF, to = openat(fs, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct tree_stats stats;

	if (to < 0)
		return error_set(err, errno, "tmpcopyup: %s", strerror(errno));
	if (mounts_open(root_fd, path, O_RDONLY | O_DIRECTORY, 0, &from, err) < 0 ||
	    tree_copy(from, to, &stats, err) < 0)
		return error_wrap(err, "tmpcopyup");
	return 0;
}

static int mount_new(const struct oci_mounts *m, const struct oci_mount *one, const struct oci_mount_options *o,
		     struct error *err)
{
	CLEANUP(fd_closep) int fs = -EBADF;
	const char *source = one->source && *one->source ? one->source : one->type;
	bool late_ro = o->copy_up && (o->set & MOUNT_ATTR_RDONLY);
	uint64_t attrs = late_ro ? o->set & ~(uint64_t)MOUNT_ATTR_RDONLY : o->set;

	if (!strcmp(one->type, "cgroup") || !strcmp(one->type, "cgroup2"))
		return mount_cgroups(m, one->destination, o, err);
	if (mounts_make_point(m->root_fd, one->destination, true, err) < 0 ||
	    mounts_make_fs_from(one->type, source, o->data, (unsigned)attrs, &fs, err) < 0)
		return -err->code;
	if (o->copy_up && copy_up(m->root_fd, one->destination, fs, err) < 0)
		return -err->code;
	if (set_attributes(fs, false, (struct mount_attr){ .attr_set = late_ro ? MOUNT_ATTR_RDONLY : 0 }, err) < 0 ||
	    set_attributes(fs, true, (struct mount_attr){ .attr_set = o->rec_set, .attr_clr = o->rec_clear },
	    err) < 0)
		return -err->code;
	if (mounts_place(TAKE_FD(fs), m->root_fd, one->destination, err) < 0 || !o->propagation)
		return o->propagation ? -err->code : 0;
	if (mounts_open(m->root_fd, one->destination, O_PATH, 0, &fs, err) < 0)
		return -err->code;
	return set_attributes(fs, o->propagation_recursive, (struct mount_attr){ .propagation = o->propagation },
		err);
}

static int place_bind(const struct oci_mounts *m, const struct oci_mount *one, int tree, struct error *err)
{
	struct stat st;

	if (fstat(tree, &st) < 0)
		return error_set(err, errno, "source %s: %s", one->source, strerror(errno));
	if (mounts_make_point(m->root_fd, one->destination, S_ISDIR(st.st_mode), err) < 0)
		return -err->code;
	return mounts_place(tree, m->root_fd, one->destination, err);
}

static int mount_one(struct oci_mounts *m, size_t i, const struct oci_mount *one, struct error *err)
{
	struct oci_mount_options o;
	int r = oci_mount_options_parse(one, &o, err);

	if (r < 0)
		return r;
	r = m->sources[i] >= 0 ? place_bind(m, one, TAKE_FD(m->sources[i]), err) : mount_new(m, one, &o, err);
	return r < 0 ? error_wrap(err, "mounts: %s", one->destination) : 0;
}

/* The namespace is a copy of the runtime's, or one that somebody made: what is
 * mounted here is nobody else's business. Hooks look for the root where the
 * bundle has it; when the container's root may not go there, it can be anywhere. */
static int put_root(struct oci_mounts *m, const char *rootfs, struct error *err)
{
	bool follows = m->root_propagation == MS_SHARED || m->root_propagation == MS_SLAVE;

	if (mount(NULL, "/", NULL, MS_REC | (follows ? MS_SLAVE : MS_PRIVATE), NULL) < 0)
		return error_set(err, errno, "make mounts private: %s", strerror(errno));
	if (move_mount(m->root_fd, "", AT_FDCWD, rootfs, MOVE_MOUNT_F_EMPTY_PATH) == 0 ||
	    (errno == EACCES && move_mount(m->root_fd, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) == 0))
		return 0;
	return error_set(err, errno, "put the root on %s: %s", rootfs, strerror(errno));
}

int oci_mounts_make(struct oci_mounts *m, const char *rootfs, struct error *err)
{
	size_t i = 0;

	if (put_root(m, rootfs, err) < 0)
		return -err->code;
	OCI_EACH(struct oci_mount, one, m->spec->mounts)
		if (mount_one(m, i++, one, err) < 0)
			return -err->code;
	return oci_devices_make(m->root_fd, m->spec, err);
}

int oci_mounts_pivot(const struct oci_mounts *m, struct error *err)
{
	if (fchdir(m->root_fd) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
		return error_set(err, errno, "make it the root: %s", strerror(errno));
	/* put_root saw to it that this does not reach the host. */
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return error_set(err, errno, "leave the old root: %s", strerror(errno));
	return 0;
}

static int mask_paths(int root, const struct oci_linux *l, struct error *err)
{
	CLEANUP(fd_closep) int null_fd = -EBADF;
	struct stat st;

	if (!l->masked_paths || !l->masked_paths[0])
		return 0;
	if (mounts_open(root, "/dev/null", O_PATH, 0, &null_fd, err) < 0)
		return -err->code;
	if (fstat(null_fd, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
		return error_set(err, EINVAL, "linux.maskedPaths: /dev/null of the container is something else");
	for (size_t i = 0; l->masked_paths[i]; i++)
		if (mounts_mask(root, l->masked_paths[i], null_fd, err) < 0)
			return error_wrap(err, "linux.maskedPaths: %s", l->masked_paths[i]);
	return 0;
}

int oci_mounts_finish(const struct oci_mounts *m, struct error *err)
{
	const struct oci_linux *l = m->spec->linux_;
	CLEANUP(fd_closep) int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (root < 0)
		return error_set(err, errno, "open /: %s", strerror(errno));
	if ((m->root_propagation == MS_SHARED || m->root_propagation == MS_UNBINDABLE) &&
	    set_attributes(root, false, (struct mount_attr){ .propagation = m->root_propagation }, err) < 0)
		return -err->code;
	for (size_t i = 0; l->readonly_paths && l->readonly_paths[i]; i++)
		if (mounts_make_read_only(root, l->readonly_paths[i], 0, err) < 0)
			return error_wrap(err, "linux.readonlyPaths: %s", l->readonly_paths[i]);
	if (mask_paths(root, l, err) < 0)
		return -err->code;
	return m->spec->root->read_only ?
		set_attributes(root, false, (struct mount_attr){ .attr_set = MOUNT_ATTR_RDONLY }, err) : 0;
}

int oci_mounts_console(int slave_fd, struct error *err)
{
	CLEANUP(fd_closep) int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (root < 0)
		return error_set(err, errno, "open /: %s", strerror(errno));
	if (mounts_make_point(root, "/dev/console", false, err) < 0)
		return -err->code;
	return mounts_bind(slave_fd, false, 0, -EBADF, root, "/dev/console", err);
}
