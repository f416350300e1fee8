#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "engine/monitor/output.h"
#include "engine/rootfs.h"
#include "migrate/dump.h"

#define GHOST_LIMIT_BYTES (1ull << 30)

struct dump_run {
	const struct container_state *state;
	struct lease_hold *lease;
	struct manifest *manifest;
	const struct dump_hooks *hooks;
};

static int netns_inode(pid_t pid, uint64_t *ret, struct error *err)
{
	struct stat st;
	char path[48];

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	if (stat(path, &st) < 0)
		return error_set(err, errno, "%s: %s", path, strerror(errno));
	*ret = st.st_ino;
	return 0;
}

static struct criu_mount *name_mounts(char **points, size_t *ret_n)
{
	struct criu_mount *m;
	size_t n = 0;

	while (points[n])
		n++;
	m = calloc(n + 1, sizeof(*m));
	for (size_t i = 0; m && i < n; i++)
		m[i] = (struct criu_mount){ .key = points[i], .path = points[i] };
	*ret_n = n;
	return m;
}

/* All folders at the top but those whose mounts are the kernel's own. */
static char **list_top(pid_t pid)
{
	char path[48];
	CLEANUP(dir_closep) DIR *d = NULL;
	char **list = NULL, **more;
	struct dirent *e;
	size_t n = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/root", (int)pid);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.' || e->d_type != DT_DIR || !strcmp(e->d_name, "proc") ||
		    !strcmp(e->d_name, "sys") || !strcmp(e->d_name, "dev"))
			continue;
		more = reallocarray(list, n + 2, sizeof(*list));
		if (!more)
			break;
		list = more;
		list[n] = list[n + 1] = NULL;
		if (asprintf(&list[n], "/%s", e->d_name) < 0)
			break;
		n++;
	}
	return list;
}

static void list_freep(char ***list)
{
	for (char **p = *list; p && *p; p++)
		free(*p);
	free(*list);
}

static bool is_empty(int dir_fd)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP(dir_closep) DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			return false;
	return true;
}

int dump_open_inside(pid_t pid, const char *path, int *ret_fd, struct error *err)
{
	CLEANUP(fd_closep) int root = -EBADF;
	char proc[48];

	(void)snprintf(proc, sizeof(proc), "/proc/%d/root", (int)pid);
	if (fd_open_dir_at(-EBADF, proc, false, 0, &root, err) < 0)
		return -err->code;
	return mounts_open(root, path, O_RDONLY | O_DIRECTORY, 0, ret_fd, err);
}

/* Those that hold something now. */
static int list_tmpfs(pid_t pid, struct manifest *m, struct error *err)
{
	size_t n = 0;

	m->tmpfs = calloc(ROOTFS_TMPFS_MAX + 1, sizeof(*m->tmpfs));
	if (!m->tmpfs)
		return error_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; rootfs_tmpfs[i]; i++) {
		CLEANUP(fd_closep) int fd = -EBADF;

		if (dump_open_inside(pid, rootfs_tmpfs[i], &fd, err) < 0)
			return -err->code;
		if (!is_empty(fd))
			m->tmpfs[n++] = strdup(rootfs_tmpfs[i]);
	}
	return 0;
}

static int on_started(void *ctx, pid_t criu_pid, struct error *err)
{
	struct dump_run *run = ctx;

	return lease_set_tracer(run->lease, criu_pid, err);
}

/* What the control group has counted ends with it. */
static uint32_t oom_kills(const struct dump_run *run)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	struct cgroup_usage u = { 0 };
	struct error ignored;

	if (container_cgroup(run->lease->container, false, &cg, &ignored) == 0)
		(void)cgroup_get_usage(cg, &u, &ignored);
	return run->state->oom_kills + (uint32_t)u.oom_kills;
}

static int fill_manifest(struct dump_run *run, struct error *err)
{
	struct manifest *m = run->manifest;
	struct stat log;

	if (fstatat(run->lease->container->dir_fd, OUTPUT_LOG, &log, 0) == 0)
		m->log_bytes = (uint64_t)log.st_size;
	memcpy(m->pipe_inodes, run->lease->pipe_inodes, sizeof(m->pipe_inodes));
	m->was_paused = run->state->status == CONTAINER_PAUSED;
	m->migrations = run->state->migrations;
	m->started_us = run->state->started_us;
	m->restarts = run->state->restarts;
	m->oom_kills = oom_kills(run);
	m->health = run->state->health;
	m->frozen_at_us = run->lease->frozen_real_us;
	return list_tmpfs(run->state->pid, m, err);
}

static int on_stage(void *ctx, enum criu_stage stage, pid_t pid, struct error *err)
{
	struct dump_run *run = ctx;

	(void)pid;
	if ((stage == CRIU_PRE_DUMP || stage == CRIU_POST_DUMP) && run->hooks->cancelled && *run->hooks->cancelled)
		return error_set(err, ECANCELED, "cancelled");
	if (stage == CRIU_PRE_DUMP) {
		if ((run->hooks->freezing && run->hooks->freezing(run->hooks->ctx, err) < 0) ||
		    lease_freeze(run->lease, run->hooks->own_gate, err) < 0)
			return -err->code;
		return run->hooks->frozen ? run->hooks->frozen(run->hooks->ctx, err) : 0;
	}
	if (stage == CRIU_NETWORK_LOCK && run->hooks->seized)
		run->hooks->seized(run->hooks->ctx);
	if (stage != CRIU_POST_DUMP)
		return 0;
	if (fill_manifest(run, err) < 0)
		return -err->code;
	return run->hooks->files(run->hooks->ctx, run->manifest, err);
}

static int run_criu(const struct container *c, const struct criu *criu, struct dump_run *run,
		    int images_fd, struct error *err)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	const struct criu_hooks hooks = { .notify = on_stage, .started = on_started, .ctx = run };
	struct criu_dump_plan plan = {
		.pid = run->state->pid, .images_fd = images_fd, .netns_key = DUMP_NETNS_KEY,
		.ghost_limit_bytes = GHOST_LIMIT_BYTES, .carried = run->hooks->carried,
	};
	CLEANUP(freep) struct criu_mount *mounts = name_mounts(run->manifest->external_mounts,
								&plan.n_mounts);
	CLEANUP(list_freep) char **top = list_top(run->state->pid);

	plan.watched_paths = (const char *const *)top;
	if (!mounts)
		return error_set(err, ENOMEM, "out of memory");
	plan.mounts = mounts;
	if (container_cgroup(c, false, &cg, err) < 0 ||
	    netns_inode(plan.pid, &plan.netns_inode, err) < 0)
		return -err->code;
	plan.freeze_cgroup = cgroup_path(cg);
	return criu_dump(criu, &plan, &hooks, err);
}

int dump_container(const struct container *c, const struct container_state *s,
		   const struct criu *criu, struct lease_hold *lease, int images_fd,
		   const struct dump_hooks *hooks, struct manifest **ret, struct error *err)
{
	CLEANUP(manifest_freep) struct manifest *m = calloc(1, sizeof(*m));
	struct dump_run run = { .state = s, .lease = lease, .manifest = m, .hooks = hooks };

	if (!m)
		return error_set(err, ENOMEM, "out of memory");
	m->criu_version = criu->version;
	if (rootfs_external_mounts(c, s->pid, &m->external_mounts, err) < 0 ||
	    run_criu(c, criu, &run, images_fd, err) < 0)
		return -err->code;
	*ret = TAKE_PTR(m);
	return 0;
}
