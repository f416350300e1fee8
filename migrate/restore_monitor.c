#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>

#include "criu-glue/criu.h"
#include "criu-glue/prepared.h"
#include "engine/base/child.h"
#include "engine/base/clock.h"
#include "engine/base/fault.h"
#include "engine/base/fd.h"
#include "engine/devices.h"
#include "engine/image/tree.h"
#include "engine/network/placement.h"
#include "engine/rootfs.h"
#include "migrate/admission/machine.h"
#include "migrate/dump.h"
#include "migrate/network/sockets.h"
#include "migrate/protocol.h"
#include "migrate/restore.h"
#include "migrate/restore_monitor.h"
#include "migrate/restore_mounts.h"
#include "migrate/restore_network.h"
#include "migrate/timeline.h"
#include "migrate/workdir.h"

#define FREEZE_TIMEOUT_US 10000000

struct restore {
	struct monitor_setup *setup;
	const struct restore_plan *plan;
	struct criu_restorer *restorer;
	struct manifest *manifest;
	int workdir, images;
	int cgroupns;
	struct restore_network network;
	struct restore_mounts mounts;
	struct sockets_wide wide;
	struct prepared *prepared;	/* shared memory: an empty list that the asker fills */
	int tmpfs[ROOTFS_TMPFS_MAX];	/* mounts, or -EBADF */
	int terminal;			/* the new master of its terminal */
	struct monitor_guard guard;	/* of a filler, which is no child of ours */
	pid_t pid;
	uint64_t committed_us;
	struct timeline line;		/* of the restore, then of the resume */
};

static void restore_closep(struct restore *r)
{
	criu_restorer_free(r->restorer);
	restore_network_closep(&r->network);
	sockets_narrow(&r->wide);
	manifest_free(r->manifest);
	fd_close(&r->workdir);
	fd_close(&r->images);
	fd_close(&r->cgroupns);
	prepared_free(r->prepared);
	for (size_t i = 0; i < ROOTFS_TMPFS_MAX; i++)
		fd_close(&r->tmpfs[i]);
	fd_close(&r->terminal);
	fd_close(&r->guard.fd);
	fd_close(&r->guard.hold_fd);
}

static int receive_op(int control, uint32_t op, int *ret_fds, size_t n_fds, struct error *err)
{
	struct monitor_message m;
	ssize_t n = fd_recv_msg(control, &m, sizeof(m), ret_fds, n_fds, err);

	if (n < 0)
		return (int)n;
	if (n == 0)
		return error_set(err, ECANCELED, "whoever asked for the restore went away");
	if ((size_t)n < offsetof(struct monitor_message, data) || m.op != op)
		return error_set(err, EPROTO, "unexpected message during a restore");
	return 0;
}

/* In a child, in the namespaces whose view the mounts depend on; the mount
 * namespace is the monitor's. */
static int mount_everything(void *ctx, struct error *err)
{
	const struct restore *r = ctx;
	const struct monitor_setup *s = r->setup;

	if (setns(s->netns_fd, CLONE_NEWNET) < 0 || setns(r->cgroupns, CLONE_NEWCGROUP) < 0)
		return error_set(err, errno, "enter its namespaces: %s", strerror(errno));
	if (s->userns_fd >= 0 && userns_work_for(&s->container->spec->userns, err) < 0)
		return -err->code;
	return rootfs_mount(s->container, ROOTFS_FOR_RESTORE, r->tmpfs, s->userns_fd, err);
}

static int prepare_criu(void *ctx)
{
	const struct restore *r = ctx;
	struct error err;

	if (cgroup_join_v1(r->setup->cgroup, &err) < 0)
		return -err.code;
	return setns(r->cgroupns, CLONE_NEWCGROUP) < 0 ? -errno : 0;
}

/* In v1 hierarchies CRIU and its helpers count as well, as long as they are there. */
static int limit_tasks(const struct restore *r, bool on, struct error *err)
{
	uint32_t pids = r->setup->container->spec->limits.pids;

	return pids ? cgroup_limit_pids(r->setup->cgroup, on ? pids : 0, err) : 0;
}

/* What can be done before anything of the container has arrived. A mount
 * namespace of our own, so that whatever is mounted goes with us. CRIU keeps what
 * it knows of the kernel on /run, if that is a tmpfs. */
static int prepare(struct restore *r, struct error *err)
{
	const struct monitor_setup *s = r->setup;
	const struct container *c = s->container;
	char folder[PATH_MAX];
	bool own_ids = s->userns_fd >= 0;	/* then CRIU's own folder is in a tmpfs: restore_mounts.h */
	struct criu_restorer_plan plan = { .cgroup = cgroup_path(s->cgroup), .folder = own_ids ? NULL : folder,
					   .files = s->stdio, .n_files = 3, .netns_fd = s->netns_fd, .lazy = true,
					   .userns_fd = s->userns_fd };
	const struct criu_hooks hooks = { .prepare_child = prepare_criu, .ctx = r };
	struct criu criu;

	(void)snprintf(folder, sizeof(folder), "%s/containers/%s", c->node->path, c->name);
	if (criu_find(&criu, err) < 0)
		return -err->code;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return error_set(err, errno, "new mount namespace: %s", strerror(errno));
	if ((s->userns_fd >= 0 && machine_check_inside(err) < 0) ||
	    limit_tasks(r, false, err) < 0 || cgroup_namespace_create(s->cgroup, s->userns_fd, &r->cgroupns, err) < 0 ||
	    restore_network_prepare(&r->network, s, err) < 0 || prepared_new(&r->prepared, err) < 0)
		return -err->code;
	plan.prepared_fd = prepared_fd(r->prepared);
	return criu_restorer_start(&criu, &plan, &hooks, &r->restorer, err);
}

/* What CRIU has done when it tells of a stage. */
static const char *const stage_names[] = {
	[CRIU_PRE_RESTORE] = "criu-images",
	[CRIU_SETUP_NAMESPACES] = "criu-root-task",
	[CRIU_POST_SETUP_NAMESPACES] = "criu-namespaces",
	[CRIU_POST_RESTORE] = "criu-tasks",
	[CRIU_PRE_RESUME] = "criu-credentials",
};

/* The tasks are complete and held by CRIU: freeze them, so that they stand
 * still when CRIU lets go. From now on they may use the container's devices
 * only (CRIU itself, which opens others, is not in this cgroup). */
static int on_stage(void *ctx, enum criu_stage stage, pid_t pid, struct error *err)
{
	struct restore *r = ctx;

	if (stage < sizeof(stage_names) / sizeof(*stage_names) && stage_names[stage])
		timeline_step(&r->line, stage_names[stage]);
	if (stage != CRIU_PRE_RESUME)
		return 0;
	if (!cgroup_contains(r->setup->cgroup, pid))
		return error_set(err, EXDEV, "CRIU has restored the container outside of its cgroup");
	if (devices_attach_default(cgroup_fd(r->setup->cgroup), err) < 0)
		return -err->code;
	return cgroup_freeze(r->setup->cgroup, FREEZE_TIMEOUT_US, err);
}

static int on_terminal(void *ctx, int fd_consume, struct error *err)
{
	struct restore *r = ctx;

	if (!r->setup->container->spec->terminal || r->terminal >= 0) {
		fd_close(&fd_consume);
		return error_set(err, ENOTTY, "a terminal whose other end was outside of the container");
	}
	r->terminal = fd_consume;
	return fcntl(r->terminal, F_SETFD, FD_CLOEXEC) < 0 ? error_set(err, errno, "terminal: %s", strerror(errno)) : 0;
}

/* Only what the engine itself mounts as external may be asked for. */
static int name_mounts(const struct restore *r, struct criu_mount **ret, char **ret_paths,
		       size_t *ret_n, struct error *err)
{
	const struct container *c = r->setup->container;
	char **points = r->manifest->external_mounts;
	struct criu_mount *m;
	char *paths;
	size_t n = 0, size = RESTORE_MOUNTS_ROOT + 4096;

	while (points[n])
		n++;
	m = calloc(n + 1, sizeof(*m));
	paths = calloc(n + 1, size);
	*ret = m;
	*ret_paths = paths;
	*ret_n = n;
	if (!m || !paths)
		return error_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < n; i++) {
		char *path = paths + i * size;

		restore_mounts_path(c, points, i, path, size);
		m[i] = (struct criu_mount){ .key = points[i], .path = path };
		if (!rootfs_is_external(c->spec, points[i]))
			return error_set(err, EINVAL, "mount point %s is not one that this engine makes", points[i]);
	}
	return 0;
}

static size_t name_pipes(const struct restore *r, struct criu_inherit *files, char keys[3][32])
{
	size_t n = 0;

	for (int i = 0; i < 3; i++) {
		if (!r->manifest->pipe_inodes[i] || r->setup->stdio[i] < 0)
			continue;
		(void)snprintf(keys[n], 32, "pipe:[%llu]", (unsigned long long)r->manifest->pipe_inodes[i]);
		files[n] = (struct criu_inherit){ .key = keys[n], .fd = r->setup->stdio[i] };
		n++;
	}
	return n;
}

/* A filler that has failed by now must not cost the container, which the source has still. */
static int check_guard(void *ctx, struct error *err)
{
	struct restore *r = ctx;
	struct error said = { .code = EIO, .msg = "the process that fills its memory in was killed" };
	struct pollfd p = { .fd = r->guard.fd, .events = POLLIN };

	if (p.fd < 0 || poll(&p, 1, 0) <= 0)
		return 0;
	if (read(p.fd, &said, sizeof(said)) == sizeof(said) && said.code == 0) {
		fd_close(&r->guard.fd);		/* all is there already */
		fd_close(&r->guard.hold_fd);
		return 0;
	}
	*err = said;
	return -err->code;
}

static int run_criu(struct restore *r, pid_t *ret_pid, struct error *err)
{
	const struct container *c = r->setup->container;
	const struct criu_hooks hooks = { .notify = on_stage, .terminal = on_terminal, .ctx = r,
					  .watched_fd = r->guard.fd > 0 ? r->guard.fd : 0, .watched = check_guard };
	CLEANUP(freep) struct criu_mount *mounts = NULL;
	CLEANUP(freep) char *paths = NULL;
	struct criu_inherit files[3];
	char keys[3][32], root[RESTORE_MOUNTS_ROOT];
	struct criu_restore_plan plan = {
		.images_fd = r->images, .root = root, .netns_key = DUMP_NETNS_KEY,
		.files = files, .n_files = name_pipes(r, files, keys),
	};

	restore_mounts_root(c, root);
	if (name_mounts(r, &mounts, &paths, &plan.n_mounts, err) < 0 ||
	    restore_mounts_place(&r->mounts, r->manifest->external_mounts, err) < 0)
		return -err->code;
	plan.mounts = mounts;
	if (criu_restore(r->restorer, &plan, &hooks, ret_pid, err) < 0) {
		workdir_keep_log(r->images, CRIU_RESTORE_LOG, c, err);
		return -err->code;
	}
	timeline_step(&r->line, "criu-leaves");
	return 0;
}

static int restore_tasks(struct restore *r, pid_t *ret_pid, struct error *err)
{
	CLEANUP(fd_closep) int meta = -EBADF;

	restore_network_mute(&r->network);
	if (fd_open_dir_at(r->setup->container->dir_fd, "meta", false, 0, &meta, err) < 0 ||
	    manifest_read(meta, &r->manifest, err) < 0 ||
	    workdir_open(r->workdir, "images", &r->images, err) < 0 ||
	    workdir_give(r->images, &r->setup->container->spec->userns, err) < 0 ||
	    child_do(mount_everything, r, err) < 0 ||
	    fault_point("restore-mounted", err) < 0)
		return -err->code;
	timeline_step(&r->line, "mounts");
	if (run_criu(r, ret_pid, err) < 0 || limit_tasks(r, true, err) < 0 ||
	    sockets_restore(r->setup->container, r->setup->netns_fd, meta, &r->wide, err) < 0)
		return -err->code;
	timeline_step(&r->line, "sockets");
	return 0;
}

/* From here on the monitor's loop watches over the filler. */
static void hand_over_guard(struct restore *r)
{
	r->setup->guard = r->guard;
	r->guard = (struct monitor_guard)MONITOR_GUARD_NONE;
}

/* Settled on disk before the first instruction runs. */
static int decide(const struct restore *r, enum token_outcome wanted, struct error *err)
{
	enum token_outcome now = wanted;

	if (r->plan->token &&
	    token_decide(r->setup->container->node, r->plan->token, wanted, &now, err) < 0)
		return -err->code;
	return now == wanted ? 0 : error_set(err, ECANCELED, "this migration was refused before it was "
					     "committed");
}

/* With our name in it nobody else cleans up. */
static int record(const struct restore *r, enum container_status status, pid_t pid,
		  struct error *err)
{
	struct container_state st;

	if (container_state(r->setup->container, &st, err) < 0)
		return -err->code;
	st.status = status;
	container_state_stamp(&st, pid, getpid());
	if (r->manifest) {
		st.started_us = r->manifest->started_us;
		st.restarts = r->manifest->restarts;
		st.oom_kills = r->manifest->oom_kills;
		st.health = r->manifest->health;
		st.migrations = r->manifest->migrations + (r->plan->token != NULL);
	}
	return container_state_write(r->setup->container, &st, err);
}

/* ---- the restorer's rows of protocol.h ---- */

/* After this there is no way back: whatever fails then, the container stays, and
 * an operator sees it paused or without network. */
static int decide_resumed(void *ctx, struct error *err)
{
	struct restore *r = ctx;

	r->committed_us = clock_us();
	timeline_begin(&r->line, clock_us());
	if (decide(r, TOKEN_RESUMED, err) < 0)
		return -err->code;
	timeline_step(&r->line, "decide");
	fault_pass("restore-decided");
	r->setup->irrevocable = true;
	return 0;
}

static int thaw_copy(void *ctx, struct error *err)
{
	struct restore *r = ctx;
	struct error ignored;

	(void)err;
	restore_network_speak(&r->network, r->setup);
	timeline_step(&r->line, "network");
	fault_pass("restore-unmuted");
	if (!r->manifest->was_paused)
		(void)cgroup_thaw(r->setup->cgroup, &ignored);
	timeline_step(&r->line, "thaw");
	fault_pass("restore-thawed");
	return 0;
}

static int record_running(void *ctx, struct error *err)
{
	struct restore *r = ctx;
	struct error ignored;

	(void)err;
	(void)record(r, CONTAINER_RUNNING, r->pid, &ignored);
	timeline_step(&r->line, "record");
	if (r->setup->endpoint.network[0])
		placement_knock(r->setup->container->node);
	fault_pass("restore-recorded");
	return 0;
}

static int tell_resumed(void *ctx, struct error *err)
{
	const struct restore *r = ctx;
	const uint64_t value[4] = { clock_us() - r->committed_us, clock_real_us() };
	struct error ignored;

	(void)err;
	(void)monitor_send(r->setup->control, RESTORE_RESUMED, value, &r->line, sizeof(r->line), -EBADF,
			   &ignored);
	fault_pass("restore-resumed");
	return 0;
}

static int decide_refused(void *ctx, struct error *err)
{
	fault_pass("restore-refuse");
	return decide(ctx, TOKEN_REFUSED, err);
}

/* KILL_COPY and REMOVE_FOLDER follow when restore_monitor_start has failed (monitor.c). */
static const protocol_do does[PROTOCOL_ACTION_MAX_] = {
	[ACTION_DECIDE_RESUMED] = decide_resumed, [ACTION_THAW_COPY] = thaw_copy,
	[ACTION_RECORD_RUNNING] = record_running, [ACTION_TELL_RESUMED] = tell_resumed,
	[ACTION_DECIDE_REFUSED] = decide_refused,
};

static int resume(struct restore *r, struct error *err)
{
	enum protocol_state state = TARGET_INCOMING;

	if (protocol_step(&state, EVENT_COMMIT, does, r, err) < 0) {
		if (!r->setup->irrevocable)
			return -err->code;
		(void)thaw_copy(r, err);
		(void)record_running(r, err);
		(void)tell_resumed(r, err);
	}
	restore_network_hear(&r->network, r->setup);
	sockets_narrow(&r->wide);
	fault_pass("restore-opened");
	return 0;
}

static void refuse(struct restore *r)
{
	enum protocol_state state = TARGET_INCOMING;
	struct error ignored;

	(void)protocol_step(&state, EVENT_HUNG_UP, does, r, &ignored);
}

static int run(struct restore *r, struct error *err)
{
	int control = r->setup->control, fds[RESTORE_GO_FDS];
	uint64_t t0, value[4] = { 0 };

	if (fault_point("restore-begin", err) < 0 || record(r, CONTAINER_INCOMING, 0, err) < 0 ||
	    prepare(r, err) < 0 || fault_point("restore-prepared", err) < 0 ||
	    monitor_send(control, RESTORE_PREPARED, NULL, NULL, 0, prepared_fd(r->prepared), err) < 0 ||
	    receive_op(control, RESTORE_GO, fds, RESTORE_GO_FDS, err) < 0 || fault_point("restore-go", err) < 0)
		return -err->code;
	r->workdir = fds[0];
	r->guard = (struct monitor_guard){ .fd = fds[1], .hold_fd = fds[2] };
	memcpy(r->tmpfs, fds + RESTORE_GO_TMPFS, sizeof(r->tmpfs));
	t0 = clock_us();
	timeline_begin(&r->line, clock_us());
	if (restore_tasks(r, &r->pid, err) < 0 || fault_point("restore-tasks", err) < 0 ||
	    record(r, CONTAINER_INCOMING, r->pid, err) < 0 || fault_point("restore-done", err) < 0)
		return -err->code;
	timeline_step(&r->line, "record");
	value[0] = clock_us() - t0;
	value[1] = (uint64_t)r->pid;
	if (monitor_send(control, RESTORE_DONE, value, &r->line, sizeof(r->line), -EBADF, err) < 0 ||
	    receive_op(control, RESTORE_COMMIT, NULL, 0, err) < 0 || fault_point("restore-commit", err) < 0 ||
	    check_guard(r, err) < 0)
		return -err->code;
	return 0;
}

/* The container has its own by now, or never will; ours would keep the folder busy. */
static void drop_mounts(struct restore *r)
{
	const struct container *c = r->setup->container;
	char path[NODE_TEXT_MAX + SPEC_NAME_MAX + 32];

	(void)snprintf(path, sizeof(path), "%s/containers/%s/merged", c->node->path, c->name);
	(void)umount2(path, MNT_DETACH);
	restore_mounts_drop(&r->mounts);
}

int restore_monitor_start(struct monitor_setup *s, void *ctx, pid_t *ret_pid, int *ret_terminal,
			  struct error *err)
{
	CLEANUP(restore_closep) struct restore r = { .setup = s, .plan = ctx, .workdir = -EBADF,
						     .images = -EBADF, .cgroupns = -EBADF, .terminal = -EBADF,
						     .network = RESTORE_NETWORK_EMPTY,
						     .tmpfs = { -EBADF, -EBADF, -EBADF, -EBADF },
						     .guard = MONITOR_GUARD_NONE,
						     .mounts.container = s->container };
	int code;

	fault_role("restore");
	*ret_terminal = -EBADF;
	code = run(&r, err) == 0 ? resume(&r, err) : -err->code;
	*ret_pid = r.pid;
	if (code == 0) {
		drop_mounts(&r);
		hand_over_guard(&r);
		*ret_terminal = TAKE_FD(r.terminal);
		fault_role("monitor");
		return 0;
	}
	drop_mounts(&r);
	refuse(&r);
	return code;
}
