#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>

#include "criu-glue/criu.h"
#include "engine/base/fd.h"
#include "migrate/checkpoint/oci_checkpoint.h"

#define FREEZE_TIMEOUT_US 10000000
#define TABLE_LIMIT (1 << 20)

static int no_memory(struct error *err)
{
	return error_set(err, ENOMEM, "out of memory");
}

static bool is_below(const char *path, const char *top)
{
	size_t n = strlen(top);

	return !strncmp(path, top, n) && (path[n] == '\0' || path[n] == '/');
}

/* What the engine makes at a restore, too, and CRIU need not. */
static bool is_external(const struct oci_spec *s, const char *point)
{
	OCI_EACH(struct oci_mount, m, s->mounts) {
		struct oci_mount_options o;
		struct error ignored;

		if (oci_mount_options_parse(m, &o, &ignored) == 0 && o.bind && is_below(point, m->destination))
			return true;
		if (m->type && !strncmp(m->type, "cgroup", 6) && is_below(point, m->destination))
			return true;
	}
	for (size_t i = 0; s->linux_->masked_paths && s->linux_->masked_paths[i]; i++)
		if (!strcmp(point, s->linux_->masked_paths[i]))
			return true;
	return false;
}

/* The fifth field of each line of mountinfo. */
static json_t *find_mounts(const struct oci_container *c, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	char path[40], point[4096], *save = NULL;
	json_t *list = json_array();

	(void)snprintf(path, sizeof(path), "/proc/%d/mountinfo", (int)c->pid);
	if (fd_read_file_at(AT_FDCWD, path, TABLE_LIMIT, &text, NULL, err) < 0) {
		json_decref(list);
		return NULL;
	}
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (sscanf(line, "%*s %*s %*s %*s %4095s", point) == 1 && is_external(c->spec, point))
			(void)json_array_append_new(list, json_string(point));
	return list;
}

static json_t *find_descriptors(const struct oci_container *c)
{
	json_t *list = json_array();

	for (int fd = 0; fd < 3; fd++) {
		char path[48], target[4096];
		ssize_t n;

		(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)c->pid, fd);
		n = readlink(path, target, sizeof(target) - 1);
		target[n < 0 ? 0 : n] = '\0';
		(void)json_array_append_new(list, json_string(target));
	}
	return list;
}

static int write_json(int dirfd, const char *name, const json_t *list, struct error *err)
{
	CLEANUP(freep) char *text = json_dumps(list, JSON_COMPACT);

	return text ? fd_replace_file_at(dirfd, name, text, strlen(text), 0600, FD_REPLACE, err) : no_memory(err);
}

const char *oci_joined_network(const struct oci_spec *s)
{
	OCI_EACH(struct oci_namespace, ns, s->linux_->namespaces)
		if (!strcmp(ns->type, "network") && ns->path && *ns->path)
			return ns->path;
	return NULL;
}

static int network_of(const struct oci_container *c, uint64_t *ret, struct error *err)
{
	char path[40];
	struct stat st;

	*ret = 0;
	if (!oci_joined_network(c->spec))
		return 0;
	(void)snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)c->pid);
	if (stat(path, &st) < 0)
		return error_set(err, errno, "%s: %s", path, strerror(errno));
	*ret = st.st_ino;
	return 0;
}

/* What was tried; the others are refused by name. */
static int check(const struct oci_container *c, struct error *err)
{
	OCI_EACH(struct oci_namespace, ns, c->spec->linux_->namespaces) {
		if (!strcmp(ns->type, "user"))
			return error_set(err, ENOTSUP, "checkpoint: not with a user namespace");
		if (ns->path && *ns->path && strcmp(ns->type, "network") != 0)
			return error_set(err, ENOTSUP, "checkpoint: not with a %s namespace that was joined (%s)",
					 ns->type, ns->path);
	}
	if (c->spec->process->terminal)
		return error_set(err, ENOTSUP, "checkpoint: not with a terminal (process.terminal)");
	return 0;
}

static int dump(const struct oci_container *c, const struct cgroup *cg, const struct oci_checkpoint_options *o,
		int images, const json_t *points, struct error *err)
{
	CLEANUP(freep) struct criu_mount *mounts = calloc(json_array_size(points) + 1, sizeof(*mounts));
	struct criu_dump_plan plan = {
		.pid = c->pid, .images_fd = images, .freeze_cgroup = cgroup_path(cg), .mounts = mounts,
		.n_mounts = json_array_size(points), .ext_unix_sk = o->ext_unix_sk, .shell_job = o->shell_job,
		.refuse_tcp = !o->tcp_established, .refuse_file_locks = !o->file_locks,
		.netns_key = OCI_NETWORK_KEY,
	};
	struct criu criu;

	if (!mounts)
		return no_memory(err);
	if (network_of(c, &plan.netns_inode, err) < 0)
		return -err->code;
	plan.lock_network = plan.netns_inode && o->tcp_established;
	plan.kill = plan.lock_network && !o->leave_running;
	for (size_t i = 0; i < plan.n_mounts; i++)
		mounts[i].key = mounts[i].path = json_string_value(json_array_get(points, i));
	if (criu_find(&criu, err) < 0)
		return -err->code;
	return criu_dump(&criu, &plan, NULL, err);
}

static int dump_frozen(const struct oci_container *c, const struct cgroup *cg,
		       const struct oci_checkpoint_options *o, struct error *err)
{
	CLEANUP(fd_closep) int images = -EBADF;
	json_t *points = NULL, *descriptors = find_descriptors(c);
	int r = -1;

	if (fd_open_dir_at(AT_FDCWD, o->image_path, true, 0700, &images, err) == 0 &&
	    (points = find_mounts(c, err)) && write_json(images, OCI_MOUNTS_FILE, points, err) == 0 &&
	    write_json(images, OCI_DESCRIPTORS_FILE, descriptors, err) == 0)
		r = dump(c, cg, o, images, points, err);
	json_decref(points);
	json_decref(descriptors);
	return r < 0 ? error_wrap(err, "checkpoint of '%s' into %s", c->id, o->image_path) : 0;
}

int oci_checkpoint(const struct oci_container *c, const struct oci_checkpoint_options *o, struct error *err)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	enum oci_status status = oci_container_status(c);
	struct error ignored;
	int r;

	if (status != OCI_RUNNING && status != OCI_PAUSED)
		return error_set(err, EINVAL, "container '%s' is %s", c->id, oci_status_name(status));
	if (check(c, err) < 0 || oci_container_cgroup(c, &cg, err) < 0 ||
	    cgroup_freeze(cg, FREEZE_TIMEOUT_US, err) < 0)
		return -err->code;
	r = dump_frozen(c, cg, o, err);
	if (r == 0 && !o->leave_running)
		return cgroup_kill(cg, FREEZE_TIMEOUT_US, err);
	if (status == OCI_RUNNING)
		return cgroup_thaw(cg, r == 0 ? err : &ignored) < 0 && r == 0 ? -err->code : r;
	return r;
}
