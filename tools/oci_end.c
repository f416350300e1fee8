#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>

#include "engine/base/cleanup.h"
#include "tools/end.h"
#include "tools/oci.h"

#define FREEZE_TIMEOUT_US 10000000

struct kill_options {
	bool all;
};

static const struct option_row kill_rows[] = {
	OPTION('a', "all", FLAG, NULL, struct kill_options, all, "every process of it, not only the first"),
	OPTION_END,
};

struct delete_options {
	bool force;
};

static const struct option_row delete_rows[] = {
	OPTION('f', "force", FLAG, NULL, struct delete_options, force, "kill what runs; none is no error"),
	OPTION_END,
};

static int signal_all(const struct oci_container *c, int sig, struct error *err)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	CLEANUP(freep) pid_t *pids = NULL;
	size_t n = 0;

	if (oci_container_cgroup(c, &cg, err) < 0)
		return -err->code;
	if (sig == SIGKILL)
		return cgroup_kill(cg, FREEZE_TIMEOUT_US, err);
	if (cgroup_pids(cg, &pids, &n, err) < 0)
		return -err->code;
	for (size_t i = 0; i < n; i++)
		if (kill(pids[i], sig) < 0 && errno != ESRCH)
			return error_set(err, errno, "kill %d: %s", (int)pids[i], strerror(errno));
	return 0;
}

/* A frozen process takes no signal but SIGKILL, and that only with a v2 freezer. */
static int signal_first(const struct oci_container *c, int sig, struct error *err)
{
	CLEANUP(fd_closep) int fd = -EBADF;

	if (oci_container_pidfd(c, &fd, err) < 0)
		return -err->code;
	if (pidfd_send_signal(fd, sig, NULL, 0) < 0)
		return error_set(err, errno, "container '%s': signal %d: %s", c->id, sig, strerror(errno));
	return 0;
}

static int kill_run(const struct invocation *inv)
{
	const struct kill_options *o = inv->options;
	CLEANUP(oci_container_freep) struct oci_container *c = oci_open(inv);
	int sig = SIGTERM, r;
	struct error err;

	if (!c)
		return EXIT_FAILED;
	r = inv->argc > 1 ? end_parse_signal(inv->argv[1], &sig, &err) : 0;
	if (r == 0)
		r = o->all ? signal_all(c, sig, &err) : signal_first(c, sig, &err);
	return r < 0 ? oci_fail(inv, &err) : EXIT_OK;
}

static int delete_run(const struct invocation *inv)
{
	const struct delete_options *o = inv->options;
	CLEANUP(oci_container_freep) struct oci_container *c = NULL;
	enum oci_status status;
	struct error err;
	int r = oci_container_open(inv->oci->root, inv->argv[0], &c, &err);

	if (r == -ENOENT && o->force)
		return EXIT_OK;
	if (r < 0)
		return oci_fail(inv, &err);
	status = oci_container_status(c);
	if (!o->force && status != OCI_STOPPED && status != OCI_CREATED)
		(void)error_set(&err, EBUSY, "container '%s' is %s: stop it first, or use --force", c->id,
				oci_status_name(status));
	else if (oci_delete(c, &err) == 0)
		return EXIT_OK;
	return oci_fail(inv, &err);
}

static int pause_run(const struct invocation *inv)
{
	CLEANUP(oci_container_freep) struct oci_container *c = oci_open(inv);
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	enum oci_status status;
	struct error err;

	if (!c)
		return EXIT_FAILED;
	status = oci_container_status(c);
	if (status != OCI_RUNNING && status != OCI_CREATED)
		(void)error_set(&err, EINVAL, "container '%s' is %s", c->id, oci_status_name(status));
	else if (oci_container_cgroup(c, &cg, &err) == 0 && cgroup_freeze(cg, FREEZE_TIMEOUT_US, &err) == 0)
		return EXIT_OK;
	return oci_fail(inv, &err);
}

static int resume_run(const struct invocation *inv)
{
	CLEANUP(oci_container_freep) struct oci_container *c = oci_open(inv);
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	bool frozen = false;
	struct error err;

	if (!c)
		return EXIT_FAILED;
	if (oci_container_cgroup(c, &cg, &err) < 0 || cgroup_is_frozen(cg, &frozen, &err) < 0)
		return oci_fail(inv, &err);
	if (!frozen)
		(void)error_set(&err, EINVAL, "container '%s' is not paused", c->id);
	else if (cgroup_thaw(cg, &err) == 0)
		return EXIT_OK;
	return oci_fail(inv, &err);
}

const struct command command_oci_kill = {
	.name = "oci kill", .usage = "ID [SIGNAL]", .summary = "send a signal [TERM]", .options = kill_rows,
	.options_size = sizeof(struct kill_options), .min_args = 1, .max_args = 2, .run = kill_run,
};

const struct command command_oci_delete = {
	.name = "oci delete", .usage = "ID", .summary = "remove a container that has stopped", .options = delete_rows,
	.options_size = sizeof(struct delete_options), .min_args = 1, .max_args = 1, .run = delete_run,
};

const struct command command_oci_pause = {
	.name = "oci pause", .usage = "ID", .summary = "freeze all processes of a container",
	.min_args = 1, .max_args = 1, .run = pause_run,
};

const struct command command_oci_resume = {
	.name = "oci resume", .usage = "ID", .summary = "let a paused container go on",
	.min_args = 1, .max_args = 1, .run = resume_run,
};
