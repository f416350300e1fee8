#include <errno.h>
#include <string.h>

#include "criu-glue/breakpoints.h"
#include "criu-glue/carried.h"
#include "criu-glue/session.h"
#include "criu-glue/smaps_learn.h"
#include "criu-glue/timers.h"
#include "engine/base/cleanup.h"
#include "engine/base/fd.h"

static int dump_keys(const struct criu_dump_plan *plan, struct keys *ret, struct error *err)
{
	int r = 0;

	if (plan->netns_inode)
		r = keys_add(ret, err, "net[%llu]:%s", (unsigned long long)plan->netns_inode,
			     plan->netns_key);
	for (size_t i = 0; r == 0 && i < plan->n_mounts; i++)
		r = keys_add(ret, err, "mnt[%s]:%s", plan->mounts[i].path, plan->mounts[i].key);
	for (size_t i = 0; r == 0 && i < plan->n_external; i++)
		r = keys_add(ret, err, "%s", plan->external[i]);
	return r;
}

int criu_dump(const struct criu *criu, const struct criu_dump_plan *plan,
	      const struct criu_hooks *hooks, struct error *err)
{
	CLEANUP(keys_freep) struct keys keys = { 0 };
	struct worker_plan worker = {
		.path = criu->path,
		.no_conntrack = plan->netns_inode != 0,
		.prepare = hooks ? hooks->prepare_child : NULL,
		.ctx = hooks ? hooks->ctx : NULL,
	};
	struct rpc_request request = {
		.verb = RPC_DUMP,
		.images_fd = plan->images_fd,
		.log_file = CRIU_DUMP_LOG,
		.log_level = CRIU_LOG_LEVEL,
		.pid = plan->pid,
		.freeze_cgroup = plan->freeze_cgroup,
		.tcp_skip_in_flight = plan->tcp_skip_in_flight,
		.lock_network = plan->lock_network,
		.kill = plan->kill,
		.watched_paths = plan->watched_paths,
		.ext_unix_sk = plan->ext_unix_sk,
		.refuse_tcp = plan->refuse_tcp,
		.refuse_file_locks = plan->refuse_file_locks,
		.shell_job = plan->shell_job,
		.orphan_pts_master = true,
	};
	CLEANUP(smaps_closep) struct smaps smaps = SMAPS_EMPTY;
	__attribute__((unused)) CLEANUP(fd_closep) int ready = breakpoints_keep_ready();
	struct error ignored;
	struct session session = SESSION_INIT(hooks);
	int fds[3];

	worker.fds = fds;
	if (plan->carried) {
		worker.carried = WORKER_FD_BASE + (int)worker.n_fds;
		fds[worker.n_fds++] = carried_fd(plan->carried);
	}
	if (smaps_open(&smaps, &ignored) == 0) {	/* else it takes longer */
		worker.smaps = WORKER_FD_BASE + (int)worker.n_fds;
		fds[worker.n_fds++] = smaps.program_fd;
		fds[worker.n_fds++] = smaps.names_fd;
	}
	if (plan->ghost_limit_bytes > UINT32_MAX)
		return error_set(err, EINVAL, "ghost file limit of %llu bytes: at most 4 GiB - 1",
				 (unsigned long long)plan->ghost_limit_bytes);
	request.ghost_limit_bytes = (uint32_t)plan->ghost_limit_bytes;
	if (dump_keys(plan, &keys, err) < 0)
		return -err->code;
	request.external = (const char *const *)keys.list;
	request.n_external = keys.n;
	if (session_start(&session, &worker, err) < 0 || session_talk(&session, &request, err) < 0)
		return -err->code;
	return timers_wake(plan->images_fd, err);
}
