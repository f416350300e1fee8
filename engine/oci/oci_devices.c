#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/mounts.h"
#include "engine/oci/oci_mounts.h"

struct node {
	const char *path;
	mode_t type, mode;
	dev_t number;
	uint32_t uid, gid;
};

static const struct { const char *path; unsigned major, minor; } defaults[] = {
	{ "/dev/null", 1, 3 },	 { "/dev/zero", 1, 5 },	   { "/dev/full", 1, 7 },
	{ "/dev/random", 1, 8 }, { "/dev/urandom", 1, 9 }, { "/dev/tty", 5, 0 },
};

static const struct { const char *name, *target; } links[] = {
	{ "fd", "/proc/self/fd" },	   { "stdin", "/proc/self/fd/0" }, { "stdout", "/proc/self/fd/1" },
	{ "stderr", "/proc/self/fd/2" },   { "core", "/proc/kcore" },
};

static int open_parent(int root_fd, const char *path, int *ret_fd, const char **ret_name, struct error *err)
{
	CLEANUP(freep) char *copy = strdup(path);
	char *slash = copy ? strrchr(copy, '/') : NULL;

	if (!slash || !slash[1])
		return error_set(err, EINVAL, "%s is no path of a device", path);
	*slash = '\0';
	*ret_name = strrchr(path, '/') + 1;
	if (*copy && mounts_make_point(root_fd, copy, true, err) < 0)
		return -err->code;
	return mounts_open(root_fd, *copy ? copy : "/", O_RDONLY | O_DIRECTORY, 0, ret_fd, err);
}

/* In a user namespace nobody may make nodes: the host's is bound instead. */
static int bind_node(int root_fd, const struct node *n, struct error *err)
{
	CLEANUP(fd_closep) int host = open(n->path, O_PATH | O_CLOEXEC);
	struct stat st;

	if (host < 0 || fstat(host, &st) < 0)
		return error_set(err, errno, "%s of the host: %s", n->path, strerror(errno));
	if ((st.st_mode & S_IFMT) != n->type || (n->type != S_IFIFO && st.st_rdev != n->number))
		return error_set(err, EPERM, "%s can't be made in a user namespace, and the host's is another",
				 n->path);
	if (mounts_make_point(root_fd, n->path, false, err) < 0)
		return -err->code;
	return mounts_bind(host, false, 0, -EBADF, root_fd, n->path, err);
}

static bool is_same(int parent, const char *name, const struct node *n)
{
	struct stat st;

	return fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_mode & S_IFMT) == n->type &&
	       (n->type == S_IFIFO || st.st_rdev == n->number);
}

static int make_node(int root_fd, const struct node *n, struct error *err)
{
	CLEANUP(fd_closep) int parent = -EBADF;
	const char *name = NULL;

	if (open_parent(root_fd, n->path, &parent, &name, err) < 0)
		return -err->code;
	if (mknodat(parent, name, n->type | n->mode, n->number) < 0) {
		if (errno == EEXIST && is_same(parent, name, n))
			return 0;
		return errno == EPERM || errno == EEXIST ? bind_node(root_fd, n, err) :
			error_set(err, errno, "%s: %s", n->path, strerror(errno));
	}
	if (fchownat(parent, name, n->uid, n->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set(err, errno, "%s: owner: %s", n->path, strerror(errno));
	return 0;
}

static int find_type(const struct oci_device *d, mode_t *ret, struct error *err)
{
	const char *t = d->type;

	*ret = !strcmp(t, "c") || !strcmp(t, "u") ? S_IFCHR : !strcmp(t, "b") ? S_IFBLK : !strcmp(t, "p") ? S_IFIFO :
		0;
	if (!*ret)
		return error_set(err, EINVAL, "linux.devices: %s: '%s' is no type: c, u, b or p", d->path, t);
	if (*ret != S_IFIFO && (!d->major.set || !d->minor.set))
		return error_set(err, EINVAL, "linux.devices: %s: major and minor are missing", d->path);
	return 0;
}

static int make_given(int root_fd, const struct oci_device *d, struct error *err)
{
	struct node n = { .path = d->path, .mode = d->file_mode.set ? (mode_t)d->file_mode.value & 07777 : 0666,
			  .number = makedev((unsigned)d->major.value, (unsigned)d->minor.value),
			  .uid = (uint32_t)d->uid.value, .gid = (uint32_t)d->gid.value };

	if (find_type(d, &n.type, err) < 0)
		return -err->code;
	return make_node(root_fd, &n, err) < 0 ? error_wrap(err, "linux.devices") : 0;
}

static bool is_given(const struct oci_linux *l, const char *path)
{
	OCI_EACH(struct oci_device, d, l->devices)
		if (!strcmp(d->path, path))
			return true;
	return false;
}

static int make_links(int root_fd, struct error *err)
{
	CLEANUP(fd_closep) int dev = -EBADF;
	struct stat st;

	if (mounts_open(root_fd, "/dev", O_RDONLY | O_DIRECTORY, 0, &dev, err) < 0)
		return -err->code;
	for (size_t i = 0; i < sizeof(links) / sizeof(*links); i++)
		if (symlinkat(links[i].target, dev, links[i].name) < 0 && errno != EEXIST)
			return error_set(err, errno, "/dev/%s: %s", links[i].name, strerror(errno));
	if (fstatat(dev, "pts/ptmx", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	(void)unlinkat(dev, "ptmx", 0);
	return symlinkat("pts/ptmx", dev, "ptmx") == 0 ? 0 : error_set(err, errno, "/dev/ptmx: %s", strerror(errno));
}

/* A bundle that brings the host's /dev by a bind has all of it already. */
static bool brings_dev(const struct oci_spec *spec)
{
	OCI_EACH(struct oci_mount, m, spec->mounts) {
		struct oci_mount_options o;
		struct error ignored;

		if (!strcmp(m->destination, "/dev") && oci_mount_options_parse(m, &o, &ignored) == 0 && o.bind)
			return true;
	}
	return false;
}

int oci_devices_make(int root_fd, const struct oci_spec *spec, struct error *err)
{
	const struct oci_linux *l = spec->linux_;
	mode_t old = umask(0);
	int r = 0;

	OCI_EACH(struct oci_device, d, l->devices)
		if (r == 0)
			r = make_given(root_fd, d, err);
	for (size_t i = 0; r == 0 && !brings_dev(spec) && i < sizeof(defaults) / sizeof(*defaults); i++) {
		const struct node n = { .path = defaults[i].path, .type = S_IFCHR, .mode = 0666,
					.number = makedev(defaults[i].major, defaults[i].minor) };

		if (!is_given(l, n.path))
			r = make_node(root_fd, &n, err);
	}
	if (r == 0 && !brings_dev(spec))
		r = make_links(root_fd, err);
	(void)umask(old);
	return r;
}
