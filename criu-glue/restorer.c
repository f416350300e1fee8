#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "criu-glue/breakpoints.h"
#include "criu-glue/session.h"
#include "engine/base/cleanup.h"
#include "engine/base/fd.h"

struct criu_restorer {
	struct session session;
	struct criu_restorer_plan plan;
	int fds[WORKER_FDS_MAX];	/* numbers here, in the worker's order */
	size_t n_fds;
	int ready;			/* for breakpoints */
};

static int inherit(struct criu_restorer *r, int fd, struct error *err)
{
	if (r->n_fds == WORKER_FDS_MAX - 2)	/* there is room for two of the shim */
		return error_set(err, E2BIG, "more than %d descriptors to inherit", WORKER_FDS_MAX - 2);
	r->fds[r->n_fds++] = fd;
	return 0;
}

static int start(struct criu_restorer *r, const struct criu *criu, const struct criu_hooks *hooks,
		 struct error *err)
{
	const struct criu_restorer_plan *plan = &r->plan;
	struct worker_plan worker = {
		.path = criu->path,
		.dies_with_caller = true,
		.small_pages = plan->lazy,
		.cgroup = plan->cgroup,
		.yard = plan->folder,
		.prepare = hooks ? hooks->prepare_child : NULL,
		.ctx = hooks ? hooks->ctx : NULL,
	};

	for (size_t i = 0; i < plan->n_files; i++)
		if (plan->files[i] >= 0 && inherit(r, plan->files[i], err) < 0)
			return -err->code;
	if (plan->netns_fd >= 0 && inherit(r, plan->netns_fd, err) < 0)
		return -err->code;
	worker.fds = r->fds;
	worker.n_fds = r->n_fds;
	if (plan->prepared_fd >= 0) {
		worker.prepared = WORKER_FD_BASE + (int)worker.n_fds;
		r->fds[worker.n_fds++] = plan->prepared_fd;
	}
	if (plan->userns_fd >= 0) {
		worker.userns = WORKER_FD_BASE + (int)worker.n_fds;
		r->fds[worker.n_fds++] = plan->userns_fd;
	}
	if (session_start(&r->session, &worker, err) < 0)
		return -err->code;
	return session_probe(&r->session, err);
}

int criu_restorer_start(const struct criu *criu, const struct criu_restorer_plan *plan,
			const struct criu_hooks *hooks, struct criu_restorer **ret, struct error *err)
{
	CLEANUP(criu_restorer_freep) struct criu_restorer *r = calloc(1, sizeof(*r));

	if (!r)
		return error_set(err, ENOMEM, "out of memory");
	r->session = (struct session)SESSION_INIT(hooks);
	r->plan = *plan;
	r->ready = breakpoints_keep_ready();
	if (start(r, criu, hooks, err) < 0)
		return -err->code;
	*ret = TAKE_PTR(r);
	return 0;
}

void criu_restorer_free(struct criu_restorer *r)
{
	if (!r)
		return;
	session_stop(&r->session);
	fd_close(&r->ready);
	free(r);
}

/* A half-restored tree is nobody's: kill it and reap its root, our child. */
static void discard(pid_t root)
{
	if (root <= 0)
		return;
	(void)kill(root, SIGKILL);
	while (waitpid(root, NULL, 0) < 0 && errno == EINTR)
		;
}

static int find_inherited(const struct criu_restorer *r, int fd, int *ret, struct error *err)
{
	for (size_t i = 0; i < r->n_fds; i++)
		if (r->fds[i] == fd) {
			*ret = WORKER_FD_BASE + (int)i;
			return 0;
		}
	return error_set(err, EINVAL, "CRIU was started without descriptor %d", fd);
}

static int name_inherited(const struct criu_restorer *r, const struct criu_restore_plan *plan,
			  struct rpc_inherit *list, size_t *ret_n, struct error *err)
{
	size_t n = 0;

	for (; n < plan->n_files; n++) {
		list[n].key = plan->files[n].key;
		if (find_inherited(r, plan->files[n].fd, &list[n].worker_fd, err) < 0)
			return -err->code;
	}
	if (r->plan.netns_fd >= 0) {
		list[n].key = plan->netns_key;
		if (find_inherited(r, r->plan.netns_fd, &list[n++].worker_fd, err) < 0)
			return -err->code;
	}
	*ret_n = n;
	return 0;
}

int criu_restore(struct criu_restorer *r, const struct criu_restore_plan *plan,
		 const struct criu_hooks *hooks, pid_t *ret_pid, struct error *err)
{
	CLEANUP(keys_freep) struct keys keys = { 0 };
	struct rpc_inherit inherited[WORKER_FDS_MAX];
	struct rpc_request request = {
		.verb = RPC_RESTORE,
		.images_fd = plan->images_fd,
		.log_file = CRIU_RESTORE_LOG,
		.log_level = CRIU_LOG_LEVEL,
		.root = plan->root,
		.lazy_pages = r->plan.lazy,
		.ext_unix_sk = plan->ext_unix_sk,
		.refuse_tcp = plan->refuse_tcp,
		.refuse_file_locks = plan->refuse_file_locks,
		.shell_job = plan->shell_job,
		.lock_network = plan->lock_network,
		.orphan_pts_master = true,
		.inherit = inherited,
	};

	for (size_t i = 0; i < plan->n_mounts; i++)
		if (keys_add(&keys, err, "mnt[%s]:%s", plan->mounts[i].key, plan->mounts[i].path) < 0)
			return -err->code;
	if (name_inherited(r, plan, inherited, &request.n_inherit, err) < 0)
		return -err->code;
	request.external = (const char *const *)keys.list;
	request.n_external = keys.n;
	r->session.hooks = hooks;
	if (session_talk(&r->session, &request, err) < 0) {
		discard(r->session.root);
		return -err->code;
	}
	*ret_pid = r->session.root;
	return 0;
}
