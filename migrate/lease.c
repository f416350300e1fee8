#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/monitor.h"
#include "migrate/lease.h"

int lease_open(const struct container *c, struct lease_hold *ret, struct error *err)
{
	struct lease_hold l = LEASE_HOLD_EMPTY;

	if (monitor_connect(c, &l.fd, err) < 0)
		return -err->code;
	*ret = l;
	return 0;
}

int lease_set_tracer(struct lease_hold *l, pid_t tracer, struct error *err)
{
	CLEANUP(fd_closep) int pidfd = (int)syscall(SYS_pidfd_open, tracer, 0);
	struct monitor_message reply;

	if (pidfd < 0)
		return error_set(err, errno, "pidfd of CRIU: %s", strerror(errno));
	return monitor_call(l->fd, MONITOR_TRACER, pidfd, &reply, err);
}

int lease_freeze(struct lease_hold *l, struct error *err)
{
	struct monitor_message reply;

	if (monitor_call(l->fd, MONITOR_FREEZE, -EBADF, &reply, err) < 0)
		return error_wrap(err, "freeze");
	l->frozen = true;
	l->frozen_us = clock_us();
	l->frozen_real_us = reply.value[0];
	memcpy(l->pipe_inodes, reply.value + 1, sizeof(l->pipe_inodes));
	return 0;
}

int lease_thaw(struct lease_hold *l, struct error *err)
{
	struct monitor_message reply;

	if (!l->frozen)
		return 0;
	if (monitor_call(l->fd, MONITOR_THAW, -EBADF, &reply, err) < 0)
		return error_wrap(err, "thaw");
	l->frozen = false;
	return 0;
}

int lease_discard(struct lease_hold *l, struct error *err)
{
	struct monitor_message reply;

	if (monitor_call(l->fd, MONITOR_DISCARD, -EBADF, &reply, err) < 0)
		return error_wrap(err, "remove the original");
	l->frozen = false;
	return 0;
}

void lease_closep(struct lease_hold *l)
{
	fd_close(&l->fd);
}
