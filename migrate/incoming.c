#include <poll.h>
#include <string.h>
#include <sys/pidfd.h>

#include "engine/base/fault.h"
#include "engine/base/fd.h"
#include "engine/container.h"
#include "engine/network.h"
#include "migrate/incoming.h"
#include "migrate/manifest.h"
#include "migrate/token.h"

int incoming_adopt(const struct container *c, struct error *err)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	CLEANUP(manifest_freep) struct manifest *m = NULL;
	CLEANUP(fd_closep) int meta = -EBADF;
	struct container_state st;
	char ifname[IFNAMSIZ];
	struct error ignored;

	fault_pass("adopt-begin");
	if (container_state(c, &st, err) < 0)
		return -err->code;
	st.status = CONTAINER_RUNNING;
	if (container_state_write(c, &st, err) < 0 || container_cgroup(c, false, &cg, err) < 0)
		return -err->code;
	fault_pass("adopt-end");
	container_host_ifname(c, ifname);
	if (c->spec->endpoint.address[0])
		(void)network_gate_set(ifname, NETWORK_GATE_OPEN, &ignored);
	if (fd_open_dir_at(c->dir_fd, "meta", false, 0, &meta, &ignored) == 0 &&
	    manifest_read(meta, &m, &ignored) == 0 && m->was_paused)
		return 0;
	return cgroup_thaw(cg, err);
}

int incoming_settle(const struct container *c, struct error *err)
{
	CLEANUP(freep) char *token = NULL;
	enum token_outcome outcome;
	int r = fd_read_file_at(c->dir_fd, INCOMING_TOKEN, TOKEN_SIZE, &token, NULL, err);

	if (r == -ENOENT)
		return container_clean(c, false, err);
	if (r < 0 || token_decide(c->node, token, TOKEN_REFUSED, &outcome, err) < 0)
		return -err->code;
	if (outcome == TOKEN_RESUMED)
		return incoming_adopt(c, err);
	if (container_clean(c, false, err) < 0)
		return -err->code;
	return token_forget(c->node, token, err);
}

/* Its receiver is dead, so its monitor is about to end. */
static bool wait_for_end(const struct container_state *st, uint64_t patience_us)
{
	CLEANUP(fd_closep) int monitor = pidfd_open(st->monitor_pid, 0);
	struct pollfd p = { .fd = monitor, .events = POLLIN };

	return monitor < 0 || container_pid_start(st->monitor_pid) != st->monitor_start ||
	       poll(&p, 1, (int)(patience_us / 1000)) > 0;
}

static int sweep_one(const struct node *node, const char *name, uint64_t patience_us, struct error *err)
{
	CLEANUP(container_freep) struct container *c = NULL;
	struct container_state st;
	struct error ignored;

	if (container_open(node, name, &c, &ignored) < 0 || container_lock(c, false, &ignored) < 0 ||
	    container_state(c, &st, &ignored) < 0 || st.status != CONTAINER_INCOMING)
		return 0;
	if (st.monitor_alive && (!wait_for_end(&st, patience_us) || container_state(c, &st, &ignored) < 0))
		return 0;
	return st.status == CONTAINER_INCOMING ? incoming_settle(c, err) : 0;
}

int incoming_sweep(const struct node *node, uint64_t patience_us, struct error *err)
{
	char **names = NULL;
	struct error ignored;
	size_t n = 0;
	int r = container_list(node, &names, &n, err);

	/* One that can't be removed now must not stand in the way of the others. */
	for (size_t i = 0; i < n; i++) {
		if (sweep_one(node, names[i], patience_us, r < 0 ? &ignored : err) < 0 && r == 0)
			r = -err->code;
		free(names[i]);
	}
	free(names);
	return r;
}
