#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/monitor/monitor.h"
#include "migrate/lease.h"

#define LOOK_AGAIN_US 200000

int lease_open(const struct container *c, struct lease_hold *ret, struct error *err)
{
	struct lease_hold l = LEASE_HOLD_EMPTY;
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;

	l.container = c;
	if (container_cgroup(c, false, &cg, err) < 0 || cgroup_is_frozen(cg, &l.was_paused, err) < 0 ||
	    monitor_connect(c, &l.fd, err) < 0)
		return -err->code;
	*ret = l;
	return 0;
}

int lease_thaw_without_monitor(const struct container *c, bool was_paused, struct error *err)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	struct container_state st;

	if (container_cgroup(c, false, &cg, err) < 0 || (!was_paused && cgroup_thaw(cg, err) < 0) ||
	    container_state(c, &st, err) < 0)
		return -err->code;
	return container_reconnect(c, st.pid, err);
}

int lease_wait_settled(struct lease_hold *l, const volatile sig_atomic_t *cancelled, struct error *err)
{
	struct pollfd p = { .fd = l->fd, .events = POLLIN };
	struct monitor_message reply;

	if (monitor_send(l->fd, MONITOR_SETTLED, NULL, NULL, 0, -EBADF, err) < 0)
		return -err->code;
	/* A signal that comes before poll does not end it. */
	while (poll(&p, 1, LOOK_AGAIN_US / 1000) <= 0)
		if (cancelled && *cancelled)
			return error_set(err, ECANCELED, "cancelled");
	if (monitor_receive(l->fd, &reply, err) < 0)
		return -err->code;
	return reply.code < 0 ? error_set(err, -reply.code, "%.*s", (int)reply.len, reply.data) : 0;
}

int lease_set_tracer(struct lease_hold *l, pid_t tracer, struct error *err)
{
	CLEANUP(fd_closep) int pidfd = (int)syscall(SYS_pidfd_open, tracer, 0);
	struct monitor_message reply;

	if (pidfd < 0)
		return error_set(err, errno, "pidfd of CRIU: %s", strerror(errno));
	return monitor_call(l->fd, MONITOR_TRACER, pidfd, &reply, err);
}

int lease_freeze(struct lease_hold *l, bool own_gate, struct error *err)
{
	uint32_t op = own_gate ? MONITOR_FREEZE_HELD : MONITOR_FREEZE;
	struct monitor_message reply;

	l->frozen = true;		/* or half so, if the monitor dies over it */
	if (monitor_call(l->fd, op, -EBADF, &reply, err) < 0) {
		l->frozen = err->code == ECONNRESET;
		return error_wrap(err, "freeze");
	}
	l->frozen_us = clock_us();
	l->frozen_real_us = reply.value[0];
	memcpy(l->pipe_inodes, reply.value + 1, sizeof(l->pipe_inodes));
	return 0;
}

int lease_thaw(struct lease_hold *l, struct error *err)
{
	struct monitor_message reply;
	int r;

	if (!l->frozen)
		return 0;
	r = monitor_call(l->fd, MONITOR_THAW, -EBADF, &reply, err);
	if (r < 0)
		r = lease_thaw_without_monitor(l->container, l->was_paused, err);
	if (r < 0)
		return error_wrap(err, "thaw");
	l->frozen = false;
	return 0;
}

static int wait_discarded(struct lease_hold *l, const struct lease_wait *wait, struct error *err)
{
	struct pollfd p[] = { { .fd = l->fd, .events = POLLIN },
			      { .fd = wait->fd, .events = POLLIN } };
	struct monitor_message reply = { 0 };

	while (reply.op != MONITOR_DISCARD) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return error_set(err, errno, "poll: %s", strerror(errno));
		if (p[1].revents)
			wait->ready(wait->ctx);
		if (p[0].revents && monitor_receive(l->fd, &reply, err) < 0)
			return -err->code;
	}
	return reply.code < 0 ? error_set(err, -reply.code, "%.*s", (int)reply.len, reply.data) : 0;
}

int lease_discard(struct lease_hold *l, const struct lease_wait *wait, struct error *err)
{
	if (monitor_send(l->fd, MONITOR_DISCARD, NULL, NULL, 0, -EBADF, err) < 0 || wait_discarded(l, wait, err) < 0)
		return error_wrap(err, "remove the original");
	l->frozen = false;
	return 0;
}

void lease_closep(struct lease_hold *l)
{
	fd_close(&l->fd);
}
