#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/oci/oci_namespaces.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

/* In the order in which they are joined: the user namespace last, since it takes
 * away the right to the others; the mount namespace shortly before. */
static const struct { const char *name; unsigned flag; const char *proc; } types[OCI_NAMESPACES_MAX] = {
	{ "pid", CLONE_NEWPID, "pid" },	      { "network", CLONE_NEWNET, "net" },
	{ "ipc", CLONE_NEWIPC, "ipc" },	      { "uts", CLONE_NEWUTS, "uts" },
	{ "cgroup", CLONE_NEWCGROUP, "cgroup" }, { "time", CLONE_NEWTIME, "time" },
	{ "mount", CLONE_NEWNS, "mnt" },      { "user", CLONE_NEWUSER, "user" },
};

const char *oci_namespace_name(size_t i, unsigned *ret_flag, const char **ret_proc)
{
	if (i >= OCI_NAMESPACES_MAX)
		return NULL;
	*ret_flag = types[i].flag;
	*ret_proc = types[i].proc;
	return types[i].name;
}

void oci_namespaces_close(struct oci_namespaces *n)
{
	for (size_t i = 0; i < OCI_NAMESPACES_MAX; i++)
		fd_close(&n->fds[i]);
}

static bool is_our_own(int fd, const char *proc)
{
	char path[40];
	struct stat a, b;

	(void)snprintf(path, sizeof(path), "/proc/self/ns/%s", proc);
	return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

static int open_path(struct oci_namespaces *n, size_t i, const char *path, struct error *err)
{
	CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	int type;

	if (fd < 0)
		return error_set(err, errno, "linux.namespaces: %s: %s: %s", types[i].name, path, strerror(errno));
	type = ioctl(fd, NS_GET_NSTYPE);
	if (type < 0 || (unsigned)type != types[i].flag)
		return error_set(err, EINVAL, "linux.namespaces: %s is no %s namespace", path, types[i].name);
	if (is_our_own(fd, types[i].proc)) {
		if (types[i].flag == CLONE_NEWNS)
			return error_set(err, ENOTSUP, "linux.namespaces: mount: %s is this runtime's own: a "
					 "container can't change its root there", path);
		return 0;		/* nothing to join */
	}
	n->join |= types[i].flag;
	n->fds[i] = TAKE_FD(fd);
	return 0;
}

static int add(struct oci_namespaces *n, const struct oci_namespace *ns, unsigned *seen, struct error *err)
{
	for (size_t i = 0; i < OCI_NAMESPACES_MAX; i++) {
		if (strcmp(types[i].name, ns->type) != 0)
			continue;
		if (*seen & types[i].flag)
			return error_set(err, EINVAL, "linux.namespaces: '%s' is there twice", ns->type);
		*seen |= types[i].flag;
		if (ns->path && *ns->path)
			return open_path(n, i, ns->path, err);
		n->create |= types[i].flag;
		return 0;
	}
	return error_set(err, EINVAL, "linux.namespaces: no namespace is called '%s'", ns->type);
}

static bool starts_with(const char *text, const char *prefix)
{
	return !strncmp(text, prefix, strlen(prefix));
}

/* The namespace that a sysctl belongs to, 0: to the whole machine. */
static unsigned sysctl_namespace(const char *key)
{
	static const char *const ipc[] = { "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
					   "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
					   "kernel.shm_rmid_forced" };

	for (size_t i = 0; i < sizeof(ipc) / sizeof(*ipc); i++)
		if (!strcmp(ipc[i], key))
			return CLONE_NEWIPC;
	if (starts_with(key, "fs.mqueue.") || starts_with(key, "fs/mqueue/"))
		return CLONE_NEWIPC;
	if (starts_with(key, "net.") || starts_with(key, "net/"))
		return CLONE_NEWNET;
	return !strcmp(key, "kernel.domainname") ? CLONE_NEWUTS : 0;
}

static int check_sysctls(const struct oci_linux *l, unsigned own, struct error *err)
{
	OCI_EACH(struct oci_pair, s, l->sysctl) {
		unsigned needs = sysctl_namespace(s->key);

		if (strstr(s->key, "..") || s->key[0] == '/')
			return error_set(err, EINVAL, "linux.sysctl: '%s' is no name", s->key);
		if (!needs)
			return error_set(err, ENOTSUP, "linux.sysctl: '%s' belongs to no namespace: it would change "
					 "the host", s->key);
		if (!(own & needs))
			return error_set(err, EINVAL, "linux.sysctl: '%s' needs a namespace that the container does "
					 "not have for itself", s->key);
	}
	return 0;
}

static int check_time(const struct oci_linux *l, unsigned create, struct error *err)
{
	OCI_EACH(struct oci_time_offset, o, l->time_offsets) {
		if (!(create & CLONE_NEWTIME))
			return error_set(err, EINVAL, "linux.timeOffsets: needs a new time namespace");
		if (strcmp(o->key, "monotonic") != 0 && strcmp(o->key, "boottime") != 0)
			return error_set(err, EINVAL, "linux.timeOffsets: no clock is called '%s'", o->key);
		if (o->nanosecs.value < 0 || o->nanosecs.value > 999999999)
			return error_set(err, EINVAL, "linux.timeOffsets.%s.nanosecs is out of range", o->key);
	}
	return 0;
}

static int check_maps(const struct oci_linux *l, unsigned create, struct error *err)
{
	bool new_user = create & CLONE_NEWUSER;

	if ((l->uid_mappings.n || l->gid_mappings.n) && !new_user)
		return error_set(err, EINVAL, "linux.uidMappings: need a new user namespace");
	if (new_user && (!l->uid_mappings.n || !l->gid_mappings.n))
		return error_set(err, EINVAL, "linux.uidMappings and gidMappings: a new user namespace needs both");
	return 0;
}

int oci_namespaces_open(const struct oci_spec *spec, struct oci_namespaces *ret, struct error *err)
{
	const struct oci_linux *l = spec->linux_;
	unsigned seen = 0, own;
	int r = 0;

	*ret = (struct oci_namespaces){ .spec = l };
	for (size_t i = 0; i < OCI_NAMESPACES_MAX; i++)
		ret->fds[i] = -EBADF;
	OCI_EACH(struct oci_namespace, ns, l->namespaces)
		if (r == 0)
			r = add(ret, ns, &seen, err);
	own = ret->create | ret->join;
	if (r == 0 && !(own & CLONE_NEWNS))
		r = error_set(err, ENOTSUP, "linux.namespaces: a container needs a mount namespace: add one");
	if (r == 0 && (spec->hostname || spec->domainname) && !(own & CLONE_NEWUTS))
		r = error_set(err, EINVAL, "%s: needs a uts namespace", spec->hostname ? "hostname" : "domainname");
	if (r == 0 && (check_maps(l, ret->create, err) < 0 || check_time(l, ret->create, err) < 0 ||
		       check_sysctls(l, own, err) < 0))
		r = -err->code;
	if (r < 0)
		oci_namespaces_close(ret);
	return r;
}

static int take_map(const struct oci_list *list, struct id_map *map, struct error *err)
{
	OCI_EACH(struct oci_id_mapping, m, *list)
		if (id_map_add(map, (uint64_t)m->container_id.value, (uint64_t)m->host_id.value,
			       (uint64_t)m->size.value, err) < 0)
			return -err->code;
	return 0;
}

int oci_namespaces_maps(const struct oci_list *uids, const struct oci_list *gids, struct userns *ret, struct error *err)
{
	*ret = (struct userns){ 0 };
	if (take_map(uids, &ret->uids, err) < 0)
		return error_wrap(err, "uidMappings");
	return take_map(gids, &ret->gids, err) < 0 ? error_wrap(err, "gidMappings") : 0;
}

int oci_namespaces_help(const struct oci_namespaces *n, char ask, pid_t between, struct error *err)
{
	char path[40], text[160];
	struct userns maps;
	size_t len = 0;

	if (ask == OCI_ASK_MAPS)
		return oci_namespaces_maps(&n->spec->uid_mappings, &n->spec->gid_mappings, &maps, err) < 0 ||
		       userns_write_maps(&maps, between, err) < 0 ? -err->code : 0;
	OCI_EACH(struct oci_time_offset, o, n->spec->time_offsets)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s %lld %lld\n", o->key,
					(long long)o->secs.value, (long long)o->nanosecs.value);
	(void)snprintf(path, sizeof(path), "/proc/%d/timens_offsets", (int)between);
	return len == 0 || fd_write_file_at(AT_FDCWD, path, text, err) == 0 ? 0 : error_wrap(err,
		"linux.timeOffsets");
}

static int ask(int sock, char what, struct error *err)
{
	char answer;

	if (fd_send_msg(sock, &what, 1, NULL, 0, err) < 0 || fd_read_full(sock, &answer, 1, err) < 0)
		return -err->code;
	return 0;
}

static int join(const struct oci_namespaces *n, struct error *err)
{
	for (size_t i = 0; i < OCI_NAMESPACES_MAX; i++)
		if (n->fds[i] >= 0 && setns(n->fds[i], (int)types[i].flag) < 0)
			return error_set(err, errno, "join the %s namespace: %s", types[i].name, strerror(errno));
	return n->join & CLONE_NEWUSER ? userns_take_root(err) : 0;
}

int oci_namespaces_enter(const struct oci_namespaces *n, int sock, struct error *err)
{
	unsigned rest = n->create & ~(unsigned)(CLONE_NEWUSER | CLONE_NEWPID);

	if (join(n, err) < 0)
		return -err->code;
	if (n->create & CLONE_NEWUSER) {
		if (unshare(CLONE_NEWUSER) < 0)
			return error_set(err, errno, "new user namespace: %s", strerror(errno));
		if (ask(sock, OCI_ASK_MAPS, err) < 0 || userns_take_root(err) < 0)
			return -err->code;
	}
	if (rest && unshare((int)rest) < 0)
		return error_set(err, errno, "new namespaces: %s", strerror(errno));
	return rest & CLONE_NEWTIME ? ask(sock, OCI_ASK_TIME, err) : 0;
}

int oci_namespaces_join_process(int init_fd, pid_t pid, struct error *err)
{
	bool user = false;
	int flags = 0;

	for (size_t i = 0; i < OCI_NAMESPACES_MAX; i++) {
		char path[40];
		CLEANUP(fd_closep) int fd = -EBADF;

		(void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, types[i].proc);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return error_set(err, errno, "%s: %s", path, strerror(errno));
		if (is_our_own(fd, types[i].proc))
			continue;
		flags |= (int)types[i].flag;
		user = user || types[i].flag == CLONE_NEWUSER;
	}
	if (flags && setns(init_fd, flags) < 0)
		return error_set(err, errno, "enter its namespaces: %s", strerror(errno));
	return user ? userns_take_root(err) : 0;
}
