/* An OCI container out of images of CRIU: oci_checkpoint.h. */
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "criu-glue/criu.h"
#include "engine/base/fd.h"
#include "engine/container.h"
#include "engine/mounts.h"
#include "engine/oci/oci_hooks.h"
#include "engine/oci/oci_resources.h"
#include "engine/oci/oci_scope.h"
#include "migrate/checkpoint/oci_checkpoint.h"

#define LIST_LIMIT (4 << 20)
#define EXTERNAL "external"		/* in the container's folder: a tmpfs, in our mount namespace */

struct restore {
	struct oci_container *c;
	const struct oci_checkpoint_options *o;
	struct cgroup *cgroup;
	struct oci_mounts mounts;
	int images;
	int network;			/* -EBADF: it has its own */
	int hidden_stdio[3];		/* copies of ours, with numbers that CRIU can be given */
	bool cgroup_namespace;
	char **paths;			/* where each of the external mounts is */
	size_t n_paths;
	json_t *points, *descriptors;
};

static int read_list(int dirfd, const char *name, json_t **ret, struct error *err)
{
	CLEANUP(freep) char *text = NULL;

	if (fd_read_file_at(dirfd, name, LIST_LIMIT, &text, NULL, err) < 0)
		return -err->code;
	*ret = json_loads(text, 0, NULL);
	for (size_t i = 0; i < json_array_size(*ret); i++)
		if (!json_is_string(json_array_get(*ret, i)))
			return error_set(err, EINVAL, "%s is damaged", name);
	return json_is_array(*ret) ? 0 : error_set(err, EINVAL, "%s is damaged", name);
}

static const struct oci_mount *mount_above(const struct oci_spec *s, const char *point, size_t *ret_index)
{
	const struct oci_mount *best = NULL, *all = s->mounts.items;

	for (size_t i = 0; i < s->mounts.n; i++) {
		size_t n = strlen(all[i].destination);

		if (strncmp(point, all[i].destination, n) != 0 || (point[n] && point[n] != '/') ||
		    (best && strlen(best->destination) > n))
			continue;
		best = &all[i];
		*ret_index = i;
	}
	return best;
}

/* Puts a bind's tree into the tmpfs, once: N for the mount with that number. */
static int place_bind(struct restore *r, size_t i, struct error *err)
{
	CLEANUP(fd_closep) int tree = TAKE_FD(r->mounts.sources[i]);
	char path[4096];
	struct stat st;
	bool made;

	if (tree < 0)
		return 0;
	(void)snprintf(path, sizeof(path), "%s/" EXTERNAL "/%zu", r->c->dir, i);
	if (fstat(tree, &st) < 0)
		return error_set(err, errno, "bind: %s", strerror(errno));
	made = S_ISDIR(st.st_mode) ? mkdir(path, 0700) == 0 : mknod(path, S_IFREG | 0600, 0) == 0;
	if (!made || move_mount(tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return error_set(err, errno, "bind %s: %s", path, strerror(errno));
	return 0;
}

static int find_place(struct restore *r, const char *point, char **ret, struct error *err)
{
	size_t i = 0;
	const struct oci_mount *m = mount_above(r->c->spec, point, &i);
	struct oci_mount_options o;
	struct stat st;
	int n;

	if (m && oci_mount_options_parse(m, &o, err) < 0)
		return -err->code;
	if (m && o.bind) {
		if (place_bind(r, i, err) < 0)
			return -err->code;
		n = asprintf(ret, "%s/" EXTERNAL "/%zu%s", r->c->dir, i, point + strlen(m->destination));
	} else if (m && !strncmp(m->type, "cgroup", 6)) {
		n = asprintf(ret, "%s/" EXTERNAL "/cgroup%s", r->c->dir, point + strlen(m->destination));
	} else {
		/* A covered path: as it is on the host, a file or a folder. */
		bool folder = stat(point, &st) == 0 && S_ISDIR(st.st_mode);

		n = folder ? asprintf(ret, "%s/" EXTERNAL "/empty", r->c->dir) : asprintf(ret, "/dev/null");
	}
	if (n < 0)
		*ret = NULL;
	return n < 0 ? error_set(err, ENOMEM, "out of memory") : 0;
}

static bool lies_in_another(const struct oci_spec *s, const struct oci_mount *m)
{
	OCI_EACH(struct oci_mount, other, s->mounts) {
		size_t n = strlen(other->destination);

		if (n > 1 && !strncmp(m->destination, other->destination, n) && m->destination[n] == '/')
			return true;
	}
	return false;
}

/* A root made anew from its image has not the mount points that were made when the container was:
 * podman's restore --import. Those in other mounts come with these. */
static int make_points(const struct restore *r, struct error *err)
{
	const struct oci_mount *all = r->c->spec->mounts.items;

	for (size_t i = 0; i < r->c->spec->mounts.n; i++) {
		struct stat st = { .st_mode = S_IFDIR };

		if (r->mounts.sources[i] >= 0 && fstat(r->mounts.sources[i], &st) < 0)
			return error_set(err, errno, "bind %s: %s", all[i].destination, strerror(errno));
		if (!lies_in_another(r->c->spec, &all[i]) &&
		    mounts_make_point(r->mounts.root_fd, all[i].destination, S_ISDIR(st.st_mode), err) < 0)
			return -err->code;
	}
	return 0;
}

static int prepare_mounts(struct restore *r, struct error *err)
{
	static const char *const folders[] = { "", "/cgroup", "/empty" };
	char path[4096];

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return error_set(err, errno, "new mount namespace: %s", strerror(errno));
	for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++) {
		(void)snprintf(path, sizeof(path), "%s/" EXTERNAL "%s", r->c->dir, folders[i]);
		if (mkdir(path, 0700) < 0 || (i == 0 && mount("tmpfs", path, "tmpfs", 0, "mode=755") < 0))
			return error_set(err, errno, "%s: %s", path, strerror(errno));
	}
	if (make_points(r, err) < 0)
		return -err->code;
	if (move_mount(r->mounts.root_fd, "", AT_FDCWD, r->c->rootfs, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return error_set(err, errno, "put the root on %s: %s", r->c->rootfs, strerror(errno));
	r->paths = calloc(json_array_size(r->points) + 1, sizeof(*r->paths));
	for (; r->paths && r->n_paths < json_array_size(r->points); r->n_paths++)
		if (find_place(r, json_string_value(json_array_get(r->points, r->n_paths)), &r->paths[r->n_paths],
			       err) < 0)
			return -err->code;
	return r->paths ? 0 : error_set(err, ENOMEM, "out of memory");
}

/* In CRIU's process: the tasks inherit its control groups and namespace. */
static int prepare_criu(void *ctx)
{
	const struct restore *r = ctx;
	CLEANUP(fd_closep) int ours = open("/proc/self/ns/cgroup", O_RDONLY | O_CLOEXEC);
	char path[4096];
	struct error err;

	(void)snprintf(path, sizeof(path), "%s/" EXTERNAL "/cgroup", r->c->dir);
	/* The view shows what the namespace's maker is in. */
	if (cgroup_join(r->cgroup, 0, &err) < 0)
		return -err.code;
	if (unshare(CLONE_NEWCGROUP) < 0)
		return -errno;
	if (cgroup_mount_view(path, true, &err) < 0)
		return -err.code;
	return r->cgroup_namespace || setns(ours, CLONE_NEWCGROUP) == 0 ? 0 : -errno;
}

static int on_stage(void *ctx, enum criu_stage stage, pid_t pid, struct error *err)
{
	struct restore *r = ctx;
	const struct oci_hooks *hooks = r->c->spec->hooks;

	if (stage == CRIU_SETUP_NAMESPACES && hooks) {
		r->c->pid = pid;
		return oci_hooks_run(&hooks->prestart, "prestart", r->c, OCI_CREATING, err) < 0 ? -err->code :
			oci_hooks_run(&hooks->create_runtime, "createRuntime", r->c, OCI_CREATING, err);
	}
	if (stage != CRIU_PRE_RESUME)
		return 0;
	if (!cgroup_contains(r->cgroup, pid))
		return error_set(err, EXDEV, "CRIU has restored the container outside of its control group");
	return oci_resources_apply(r->c->spec->arena, r->cgroup, r->c->spec->linux_->resources, false, err);
}

/* Pipes of the dump become ours; files and devices CRIU opens itself. */
static size_t name_stdio(const struct restore *r, struct criu_inherit *files)
{
	size_t n = 0;

	for (size_t i = 0; i < 3 && i < json_array_size(r->descriptors); i++) {
		const char *key = json_string_value(json_array_get(r->descriptors, i));

		if (!strncmp(key, "pipe:", 5))
			files[n++] = (struct criu_inherit){ .key = key, .fd = r->hidden_stdio[i] };
	}
	return n;
}

static int run_criu(struct restore *r, pid_t *ret_pid, struct error *err)
{
	CLEANUP(criu_restorer_freep) struct criu_restorer *restorer = NULL;
	CLEANUP(freep) struct criu_mount *mounts = calloc(r->n_paths + 1, sizeof(*mounts));
	const struct criu_hooks hooks = { .prepare_child = prepare_criu, .notify = on_stage, .ctx = r };
	const struct criu_restorer_plan start = { .cgroup = cgroup_path(r->cgroup), .folder = r->c->dir,
						  .files = r->hidden_stdio, .n_files = 3, .netns_fd = r->network,
						  .userns_fd = -EBADF, .prepared_fd = -EBADF };
	struct criu_inherit files[3];
	const struct criu_restore_plan plan = {
		.images_fd = r->images, .root = r->c->rootfs, .mounts = mounts, .n_mounts = r->n_paths, .files = files,
		.n_files = name_stdio(r, files), .ext_unix_sk = r->o->ext_unix_sk, .shell_job = r->o->shell_job,
		.refuse_tcp = !r->o->tcp_established, .refuse_file_locks = !r->o->file_locks,
		.netns_key = OCI_NETWORK_KEY, .lock_network = r->network >= 0 && r->o->tcp_established,
	};
	struct criu criu;

	if (!mounts)
		return error_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < r->n_paths; i++)
		mounts[i] = (struct criu_mount){ .key = json_string_value(json_array_get(r->points, i)),
						 .path = r->paths[i] };
	if (criu_find(&criu, err) < 0 || criu_restorer_start(&criu, &start, &hooks, &restorer, err) < 0)
		return -err->code;
	return criu_restore(restorer, &plan, &hooks, ret_pid, err);
}

static bool has_cgroup_namespace(const struct oci_linux *l)
{
	OCI_EACH(struct oci_namespace, ns, l->namespaces)
		if (!strcmp(ns->type, "cgroup"))
			return true;
	return false;
}

static int open_network(struct restore *r, struct error *err)
{
	const char *path = oci_joined_network(r->c->spec);

	if (!path)
		return 0;
	r->network = open(path, O_RDONLY | O_CLOEXEC);
	if (r->network < 0)
		return error_set(err, errno, "linux.namespaces: network: %s: %s", path, strerror(errno));
	return 0;
}

static int prepare(struct restore *r, struct error *err)
{
	const struct oci_spec *s = r->c->spec;

	if (!s->process || s->process->terminal)
		return error_set(err, ENOTSUP, "restore: not with a terminal (process.terminal)");
	if (fd_open_dir_at(AT_FDCWD, r->o->image_path, false, 0, &r->images, err) < 0 ||
	    read_list(r->images, OCI_MOUNTS_FILE, &r->points, err) < 0 ||
	    read_list(r->images, OCI_DESCRIPTORS_FILE, &r->descriptors, err) < 0)
		return error_wrap(err, "--image-path");
	for (int fd = 0; fd < 3; fd++)
		r->hidden_stdio[fd] = fcntl(fd, F_DUPFD_CLOEXEC, 64);
	if (open_network(r, err) < 0)
		return -err->code;
	r->cgroup_namespace = has_cgroup_namespace(s->linux_);
	if (oci_mounts_open(s, r->c->rootfs, &r->mounts, err) < 0 ||
	    oci_container_cgroup_create(r->c, &r->cgroup, err) < 0)
		return -err->code;
	return prepare_mounts(r, err);
}

static int finish(struct restore *r, const struct oci_launch_options *launch, pid_t pid, struct error *err)
{
	r->c->pid = pid;
	r->c->pid_start = container_pid_start(pid);
	if (oci_container_save(r->c, err) < 0)
		return -err->code;
	return launch->pid_file ? oci_write_pid_file(launch->pid_file, pid, err) : 0;
}

int oci_restore(struct oci_container *c, const struct oci_checkpoint_options *o,
		const struct oci_launch_options *launch, struct error *err)
{
	struct restore r = { .c = c, .o = o, .images = -EBADF, .network = -EBADF,
			     .hidden_stdio = { -EBADF, -EBADF, -EBADF }, .mounts = { .root_fd = -EBADF } };
	struct error ignored;
	char path[4096];
	pid_t pid = 0;
	int result = prepare(&r, err);

	if (result == 0)
		result = run_criu(&r, &pid, err);
	if (result == 0)
		result = finish(&r, launch, pid, err);
	oci_scope_leave(&c->placeholder);
	oci_mounts_close(&r.mounts);
	cgroup_free(r.cgroup);
	fd_close(&r.images);
	fd_close(&r.network);
	for (int i = 0; i < 3; i++)
		fd_close(&r.hidden_stdio[i]);
	for (size_t i = 0; i < r.n_paths; i++)
		free(r.paths[i]);
	free(r.paths);
	json_decref(r.points);
	json_decref(r.descriptors);
	if (result == 0)
		return 0;
	(void)snprintf(path, sizeof(path), "%s/" EXTERNAL, c->dir);
	(void)umount2(path, MNT_DETACH);
	(void)oci_container_destroy(c, &ignored);
	return error_wrap(err, "restore '%s' from %s", c->id, o->image_path);
}
