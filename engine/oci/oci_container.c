#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "engine/base/fd.h"
#include "engine/container.h"
#include "engine/oci/oci_container.h"
#include "engine/oci/oci_scope.h"

#define STATE_LIMIT (64 << 10)
#define SCOPE_TRIES 20
#define KILL_TIMEOUT_US 10000000

void oci_container_free(struct oci_container *c)
{
	if (!c)
		return;
	fd_close(&c->dir_fd);
	free(c->dir);
	free(c->bundle);
	free(c->rootfs);
	free(c->slice);
	free(c->unit);
	free(c->cgroup_parent);
	free(c->cgroup_name);
	oci_spec_free(c->spec);
	free(c);
}

static int no_memory(struct error *err)
{
	return error_set(err, ENOMEM, "out of memory");
}

static int check_id(const char *id, struct error *err)
{
	size_t len = strlen(id);

	if (len == 0 || len > OCI_ID_MAX || id[0] == '.' ||
	    strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.") != len)
		return error_set(err, EINVAL, "'%.80s' is no container id: letters, digits, _, +, - and . "
				 "(not first), at most %d", id, OCI_ID_MAX);
	return 0;
}

static int make_object(const char *root, const char *id, struct oci_container **ret, struct error *err)
{
	CLEANUP(oci_container_freep) struct oci_container *c = calloc(1, sizeof(*c));

	if (!c)
		return no_memory(err);
	c->dir_fd = -EBADF;
	if (check_id(id, err) < 0)
		return -err->code;
	(void)snprintf(c->id, sizeof(c->id), "%s", id);
	if (asprintf(&c->dir, "%s/%s", root, id) < 0) {
		c->dir = NULL;
		return no_memory(err);
	}
	*ret = TAKE_PTR(c);
	return 0;
}

static int make_folders(const char *root, struct error *err)
{
	CLEANUP(freep) char *copy = strdup(root);

	for (char *p = copy ? strchr(copy + 1, '/') : NULL; p; p = strchr(p + 1, '/')) {
		*p = '\0';
		if (mkdir(copy, 0755) < 0 && errno != EEXIST)
			return error_set(err, errno, "make %s: %s", copy, strerror(errno));
		*p = '/';
	}
	if (mkdir(root, 0700) < 0 && errno != EEXIST)
		return error_set(err, errno, "make %s: %s", root, strerror(errno));
	return 0;
}

/* "/a/b/c" is b's c; without a leading slash it is below our own parent. */
static int find_cgroup(struct oci_container *c, struct error *err)
{
	const char *given = c->spec->linux_->cgroups_path;
	CLEANUP(freep) char *path = NULL;
	char *slash;

	if (given && *given && strchr(given, ':') && !strchr(given, '/'))
		return error_set(err, EINVAL, "linux.cgroupsPath: '%s' is for systemd: say --systemd-cgroup, or give "
				 "a path", given);
	if (asprintf(&path, "%s%s%s", given && *given == '/' ? "" : OCI_CGROUP_PARENT "/",
		     given && *given ? given : c->id, "") < 0) {
		path = NULL;
		return no_memory(err);
	}
	for (slash = path + strlen(path) - 1; slash > path && *slash == '/'; slash--)
		*slash = '\0';
	slash = strrchr(path, '/');
	c->cgroup_name = strdup(slash + 1);
	*slash = '\0';
	c->cgroup_parent = strdup(path);
	return c->cgroup_name && c->cgroup_parent ? 0 : no_memory(err);
}

static int load_spec(struct oci_container *c, int dirfd, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	size_t len;

	if (fd_read_file_at(dirfd, "config.json", OCI_JSON_LIMIT, &text, &len, err) < 0)
		return -err->code;
	return oci_spec_parse(text, len, &c->spec, err);
}

static int find_places(struct oci_container *c, const char *bundle, struct error *err)
{
	const char *root = c->spec->root->path;
	CLEANUP(freep) char *path = NULL;

	c->bundle = realpath(bundle, NULL);
	if (!c->bundle)
		return error_set(err, errno, "bundle %s: %s", bundle, strerror(errno));
	if (asprintf(&path, "%s%s%s", root[0] == '/' ? "" : c->bundle, root[0] == '/' ? "" : "/", root) < 0) {
		path = NULL;
		return no_memory(err);
	}
	c->rootfs = realpath(path, NULL);
	return c->rootfs ? 0 : error_set(err, errno, "root.path: %s: %s", path, strerror(errno));
}

static void note_time(struct oci_container *c)
{
	struct timespec now;
	struct tm tm;
	char date[24];

	(void)clock_gettime(CLOCK_REALTIME, &now);
	(void)gmtime_r(&now.tv_sec, &tm);
	(void)strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	(void)snprintf(c->created, sizeof(c->created), "%s.%09ldZ", date, now.tv_nsec);
}

static int copy_config(const struct oci_container *c, int bundle_fd, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	size_t len;

	if (fd_read_file_at(bundle_fd, "config.json", OCI_JSON_LIMIT, &text, &len, err) < 0)
		return -err->code;
	return fd_replace_file_at(c->dir_fd, "config.json", text, len, 0600, FD_REPLACE, err);
}

static int make_dir(struct oci_container *c, struct error *err)
{
	if (mkdir(c->dir, 0700) < 0)
		return errno == EEXIST ?
			error_set(err, EEXIST, "container '%s' is there already: delete it, or take another id",
				  c->id) :
			error_set(err, errno, "make %s: %s", c->dir, strerror(errno));
	return fd_open_dir_at(AT_FDCWD, c->dir, false, 0, &c->dir_fd, err);
}

int oci_container_create(const char *root, const char *id, const char *bundle, bool systemd,
			 struct oci_container **ret, struct error *err)
{
	CLEANUP(oci_container_freep) struct oci_container *c = NULL;
	CLEANUP(fd_closep) int bundle_fd = -EBADF;
	struct error ignored;

	if (make_object(root, id, &c, err) < 0)
		return -err->code;
	if (fd_open_dir_at(AT_FDCWD, bundle, false, 0, &bundle_fd, err) < 0)
		return error_wrap(err, "bundle");
	if (load_spec(c, bundle_fd, err) < 0 || find_places(c, bundle, err) < 0 ||
	    (systemd ? oci_scope_name(c->spec->linux_->cgroups_path, id, &c->slice, &c->unit, err) :
		       find_cgroup(c, err)) < 0 ||
	    make_folders(root, err) < 0 || make_dir(c, err) < 0)
		return -err->code;
	/* A create that is killed leaves a scope that only this tells of. */
	if (copy_config(c, bundle_fd, err) < 0 || (c->unit && oci_container_save(c, err) < 0)) {
		(void)fd_remove_tree_at(AT_FDCWD, c->dir, &ignored);
		return -err->code;
	}
	*ret = TAKE_PTR(c);
	return 0;
}

int oci_container_save(struct oci_container *c, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	json_t *j;

	if (c->pid > 0 && !c->created[0])
		note_time(c);
	j = json_pack("{s:i, s:I, s:s, s:s, s:s, s:s*, s:s*, s:s*}", "pid", (int)c->pid, "pidStart",
			      (json_int_t)c->pid_start, "bundle", c->bundle, "rootfs", c->rootfs, "created",
			      c->created, "cgroupParent", c->cgroup_parent, "cgroupName", c->cgroup_name,
			      "systemdUnit", c->unit);
	text = j ? json_dumps(j, JSON_INDENT(1)) : NULL;
	json_decref(j);
	if (!text)
		return no_memory(err);
	return fd_replace_file_at(c->dir_fd, "state.json", text, strlen(text), 0600, FD_REPLACE, err);
}

/* Of a create that was killed there is no state.json: what config.json tells must do. */
static int load_state(struct oci_container *c, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	const char *bundle, *rootfs, *created, *parent = NULL, *name = NULL, *unit = NULL;
	json_int_t start;
	struct error why;
	int r = fd_read_file_at(c->dir_fd, "state.json", STATE_LIMIT, &text, NULL, &why), pid;
	json_t *j;

	if (r == -ENOENT)
		return find_cgroup(c, err);
	if (r < 0) {
		*err = why;
		return r;
	}
	j = json_loads(text, 0, NULL);
	r = json_unpack(j, "{s:i, s:I, s:s, s:s, s:s, s?s, s?s, s?s}", "pid", &pid, "pidStart", &start, "bundle",
			&bundle, "rootfs", &rootfs, "created", &created, "cgroupParent", &parent, "cgroupName", &name,
			"systemdUnit", &unit);
	if (r == 0 && !unit && (!parent || !name))
		r = -1;
	if (r == 0) {
		c->pid = pid;
		c->pid_start = (uint64_t)start;
		c->bundle = strdup(bundle);
		c->rootfs = strdup(rootfs);
		c->cgroup_parent = parent ? strdup(parent) : NULL;
		c->cgroup_name = name ? strdup(name) : NULL;
		c->unit = unit ? strdup(unit) : NULL;
		(void)snprintf(c->created, sizeof(c->created), "%s", created);
	}
	json_decref(j);
	return r == 0 ? 0 : error_set(err, EINVAL, "%s/state.json is damaged: delete the container", c->dir);
}

int oci_container_open(const char *root, const char *id, struct oci_container **ret, struct error *err)
{
	CLEANUP(oci_container_freep) struct oci_container *c = NULL;

	if (make_object(root, id, &c, err) < 0)
		return -err->code;
	if (fd_open_dir_at(AT_FDCWD, c->dir, false, 0, &c->dir_fd, err) < 0)
		return err->code == ENOENT ?
			error_set(err, ENOENT, "container '%s' does not exist", id) : -err->code;
	if (load_spec(c, c->dir_fd, err) < 0 || load_state(c, err) < 0)
		return error_wrap(err, "container '%s'", id);
	*ret = TAKE_PTR(c);
	return 0;
}

int oci_container_cache(const struct oci_container *c)
{
	static const char path[] = "../.cache";

	(void)mkdirat(c->dir_fd, path, 0700);
	return openat(c->dir_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

int oci_container_list(const char *root, char ***ret, size_t *ret_n, struct error *err)
{
	struct error why;
	int r = fd_list_at(AT_FDCWD, root, ret, ret_n, &why);

	if (r == -ENOENT) {
		*ret = NULL;
		*ret_n = 0;
		return 0;
	}
	if (r < 0)
		*err = why;
	return r;
}

enum oci_status oci_container_status(const struct oci_container *c)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	struct error ignored;
	bool frozen = false;

	if (!c->created[0])
		return OCI_CREATING;
	if (c->pid <= 0 || container_pid_start(c->pid) != c->pid_start)
		return OCI_STOPPED;
	if (faccessat(c->dir_fd, OCI_START_SOCKET, F_OK, 0) == 0)
		return OCI_CREATED;
	if (oci_container_cgroup(c, &cg, &ignored) == 0 && cgroup_is_frozen(cg, &frozen, &ignored) == 0 &&
		frozen)
		return OCI_PAUSED;
	return OCI_RUNNING;
}

const char *oci_status_name(enum oci_status s)
{
	static const char *const names[] = { "creating", "created", "running", "paused", "stopped" };

	return names[s];
}

json_t *oci_container_state(const struct oci_container *c, enum oci_status status, bool more)
{
	json_t *j = json_pack("{s:s, s:s, s:i, s:s, s:s}", "ociVersion", OCI_VERSION, "id", c->id, "pid",
			      status == OCI_STOPPED ? 0 : (int)c->pid, "status", oci_status_name(status),
			      "bundle", c->bundle ? c->bundle : "");
	json_t *annotations = c->spec->annotations.n ? json_object() : NULL;

	OCI_EACH(struct oci_pair, a, c->spec->annotations)
		(void)json_object_set_new(annotations, a->key, json_string(a->value));
	if (annotations)
		(void)json_object_set_new(j, "annotations", annotations);
	if (more) {
		(void)json_object_set_new(j, "rootfs", json_string(c->rootfs ? c->rootfs : ""));
		(void)json_object_set_new(j, "created", json_string(c->created));
		(void)json_object_set_new(j, "owner", json_string(""));
	}
	return j;
}

int oci_container_pidfd(const struct oci_container *c, int *ret, struct error *err)
{
	CLEANUP(fd_closep) int fd = c->pid > 0 ? pidfd_open(c->pid, 0) : -EBADF;

	if (fd < 0 || container_pid_start(c->pid) != c->pid_start)
		return error_set(err, ESRCH, "container '%s' is not running: its first process is gone", c->id);
	*ret = TAKE_FD(fd);
	return 0;
}

/* systemd removes empty directories of the v1 controllers that it does not use itself, at any moment. */
static int settle_in_scope(const struct oci_container *c, struct cgroup **ret, struct error *err)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	int r;

	for (int i = 0; i < SCOPE_TRIES; i++) {
		cgroup_free(TAKE_PTR(cg));
		r = cgroup_adopt_full(c->cgroup_parent, c->cgroup_name, &cg, err);
		if (r == 0)
			r = cgroup_join(cg, c->placeholder, err);
		if (r != -ENOENT && r != -ENODEV)
			break;
	}
	if (r == 0)
		*ret = TAKE_PTR(cg);
	return r;
}

int oci_container_cgroup_create(struct oci_container *c, struct cgroup **ret, struct error *err)
{
	if (!c->unit)
		return cgroup_create_full(c->cgroup_parent, c->cgroup_name, ret, err);
	/* Directories of ours that systemd doesn't know are found again by state.json. */
	if (oci_scope_start(c->spec, c->id, c->slice, c->unit, &c->placeholder, &c->cgroup_parent, &c->cgroup_name,
			    err) < 0 ||
	    oci_container_save(c, err) < 0)
		return -err->code;
	return settle_in_scope(c, ret, err);
}

int oci_container_cgroup(const struct oci_container *c, struct cgroup **ret, struct error *err)
{
	if (!c->cgroup_name)
		return error_set(err, ENOENT, "container '%s' has no control group yet", c->id);
	return cgroup_open_full(c->cgroup_parent, c->cgroup_name, ret, err);
}

/* Whoever lives in the control groups; *ret is NULL when there are none. */
static int kill_all(const struct oci_container *c, struct cgroup **ret, struct error *err)
{
	struct error why;
	int r = oci_container_cgroup(c, ret, &why);

	if (r < 0 && r != -ENOENT) {
		*err = why;
		return r;
	}
	return *ret ? cgroup_kill(*ret, KILL_TIMEOUT_US, err) : 0;
}

/* Without anybody in it a scope goes by itself, where systemd can't be asked. What it does not
 * know of is left to us. */
static int remove_scope(const struct oci_container *c, struct error *err)
{
	struct error why;

	if (oci_scope_remove(c->id, c->unit, &why) < 0 && !c->cgroup_name) {
		*err = why;
		return -err->code;
	}
	return c->cgroup_name ? cgroup_remove_rest(c->cgroup_parent, c->cgroup_name, err) : 0;
}

int oci_container_destroy(const struct oci_container *c, struct error *err)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;

	if (kill_all(c, &cg, err) < 0 || (c->unit && remove_scope(c, err) < 0) ||
	    (!c->unit && cg && cgroup_remove(cg, err) < 0))
		return -err->code;
	return fd_remove_tree_at(AT_FDCWD, c->dir, err);
}

int oci_container_connect(const struct oci_container *c, int *ret_sock, struct error *err)
{
	CLEANUP(fd_closep) int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	(void)snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/%s", c->dir_fd, OCI_START_SOCKET);
	if (sock < 0)
		return error_set(err, errno, "socket: %s", strerror(errno));
	if (connect(sock, (const struct sockaddr *)&a, sizeof(a)) < 0)
		return errno == ENOENT ?
			error_set(err, EINVAL, "container '%s' is not waiting to be started: it is %s", c->id,
				  oci_status_name(oci_container_status(c))) :
			error_set(err, ESRCH, "container '%s': its first process is gone", c->id);
	*ret_sock = TAKE_FD(sock);
	return 0;
}
