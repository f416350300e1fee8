/* Who froze the container, and what becomes of it when he is gone. */
#include "engine/base/clock.h"
#include "engine/base/fault.h"
#include "engine/base/fd.h"
#include "engine/monitor/monitor_state.h"

#define FREEZE_TIMEOUT_US 10000000

void monitor_write_state(struct monitor *m)
{
	struct error ignored;

	m->unwritten = container_state_write(m->setup.container, &m->state, &ignored) < 0;
}

void monitor_set_status(struct monitor *m, enum container_status s)
{
	m->state.status = s;
	monitor_write_state(m);
}

int monitor_gate(const struct monitor *m, enum network_gate g, struct error *err)
{
	const struct network_endpoint *ep = &m->setup.endpoint;

	return ep->bridge[0] ? network_gate_set(ep->host_ifname, g, err) : 0;
}

static int lease_thaw(struct monitor *m, struct error *err)
{
	int r = fault_point("monitor-thaw", err);

	if (r == 0 && !m->lease.was_paused)
		r = cgroup_thaw(m->setup.cgroup, err);
	if (r == 0)
		r = network_resume(m->setup.netns_fd, &m->setup.endpoint, err);
	fd_close(&m->lease.tracer_fd);
	m->lease.active = false;
	m->lease.client_fd = -EBADF;
	monitor_set_status(m, CONTAINER_RUNNING);
	fault_pass("monitor-thawed");
	return r;
}

/* A decision on disk: only the migration may take it back. */
bool monitor_is_decided(const struct monitor *m)
{
	return faccessat(m->setup.container->dir_fd, "handover.json", F_OK, 0) == 0;
}

/* The client is gone and so is the tracer: thaw, unless a decision is on disk
 * that only the migration may take back. */
void monitor_lease_expire(struct monitor *m)
{
	struct error ignored;

	fd_close(&m->lease.tracer_fd);
	if (!m->lease.active)
		return;
	fault_pass("monitor-expire");
	if (monitor_is_decided(m))
		m->lease.active = false;
	else
		(void)lease_thaw(m, &ignored);
}

void monitor_freeze(struct monitor *m, struct client *c, const struct monitor_message *q)
{
	uint64_t value[4] = { 0, m->pipe_inodes[0], m->pipe_inodes[1], m->pipe_inodes[2] };
	struct error err;
	bool decided = monitor_is_decided(m), frozen = false, paused;
	int r = 0;

	if (m->lease.active) {
		monitor_reply(c->fd, q->op, -EBUSY, NULL, "it is frozen by another operation already");
		return;
	}
	if (m->setup.guard.fd >= 0) {
		monitor_reply(c->fd, q->op, -EAGAIN, NULL, "its memory is still being filled in");
		return;
	}
	/* A monitor that finds it frozen with a decision on disk goes on from there. */
	(void)cgroup_is_frozen(m->setup.cgroup, &frozen, &err);
	paused = decided ? m->lease.was_paused : frozen;
	m->lease = (struct lease){ .active = true, .was_paused = paused, .client_fd = c->fd,
				   .tracer_fd = m->lease.tracer_fd };
	m->state.was_paused = paused;
	monitor_set_status(m, CONTAINER_MIGRATING);	/* who finds it frozen and us dead must know why */
	if (!decided || !frozen)
		r = fault_point("monitor-freeze", &err);
	if (r == 0 && q->op == MONITOR_FREEZE)
		r = monitor_gate(m, NETWORK_GATE_CLOSED, &err);
	if (r == 0 && !(decided && frozen))
		r = (decided ? cgroup_freeze : cgroup_freeze_to_dump)(m->setup.cgroup, FREEZE_TIMEOUT_US,
										    &err);
	value[0] = clock_real_us();
	if (r < 0) {
		monitor_lease_expire(m);
		monitor_reply_result(c->fd, q->op, r, &err);
		return;
	}
	/* All that it has written is in the log, which moves with it. */
	monitor_drain(m);
	(void)output_flush(&m->output, &err);
	fault_pass("monitor-frozen");
	monitor_reply(c->fd, q->op, 0, value, NULL);
}

void monitor_tracer(struct monitor *m, struct client *c, const struct monitor_message *q, int *fd)
{
	fd_close(&m->lease.tracer_fd);
	m->lease.tracer_fd = TAKE_FD(*fd);
	monitor_reply(c->fd, q->op, m->lease.tracer_fd < 0 ? -EBADF : 0, NULL, "no descriptor came");
}

void monitor_thaw(struct monitor *m, struct client *c, const struct monitor_message *q)
{
	struct error err;
	int r = m->lease.active ? lease_thaw(m, &err) :
		error_set(&err, EINVAL, "no operation has frozen it");

	monitor_reply_result(c->fd, q->op, r, &err);
}

