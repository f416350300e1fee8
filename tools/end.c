#include <poll.h>
#include <signal.h>
#include <string.h>
#include <strings.h>
#include <sys/pidfd.h>

#include "engine/base/cleanup.h"
#include "engine/base/clock.h"
#include "engine/monitor/monitor.h"
#include "tools/end.h"

#define KILL_TIMEOUT_US 10000000
#define ANNOUNCE_TIMEOUT_US 5000000
#define LOOK_AGAIN_US 1000

void end_mend(struct container *c)
{
	struct container_state st;
	struct error ignored;

	if (container_state(c, &st, &ignored) == 0 && monitor_is_missing(c, &st) &&
	    container_lock(c, false, &ignored) == 0)
		container_unlock(c);
}

int end_check(const struct container *c, struct container_state *ret, struct error *err)
{
	if (container_state(c, ret, err) < 0)
		return -err->code;
	if (ret->status == CONTAINER_MIGRATING || ret->status == CONTAINER_IN_DOUBT ||
	    ret->status == CONTAINER_INCOMING)
		return error_set(err, EBUSY, "container '%s': it is %s", c->name,
				 container_status_name(ret->status));
	if (!container_status_is_live(ret->status))
		return error_set(err, ESRCH, "container '%s' is not running (%s)", c->name,
				 container_status_name(ret->status));
	return 0;
}

int end_signal(const struct container *c, const struct container_state *st, int sig,
	       struct error *err)
{
	CLEANUP(fd_closep) int fd = pidfd_open(st->pid, 0);

	/* The start time tells whether the pid was given to another one meanwhile. */
	if (fd < 0 || container_pid_start(st->pid) != st->pid_start)
		return error_set(err, ESRCH, "container '%s': its first process is gone", c->name);
	if (pidfd_send_signal(fd, sig, NULL, 0) < 0)
		return error_set(err, errno, "container '%s': send signal %d: %s", c->name, sig, strerror(errno));
	return 0;
}

/* A monitor goes when all is cleaned up and told. */
static bool wait_gone(int monitor_pidfd, uint64_t until_us)
{
	struct pollfd p = { .fd = monitor_pidfd, .events = POLLIN };

	for (;;) {
		uint64_t now = clock_us();
		int r = poll(&p, 1, now < until_us ? (int)((until_us - now + 999) / 1000) : 0);

		if (r == 0 || (r < 0 && errno != EINTR))
			return false;
		if (r > 0)
			return true;
	}
}

static int kill_all(const struct container *c, struct error *err)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	int r = container_cgroup(c, false, &cg, err);

	return r == -ENOENT ? 0 : r < 0 ? r : cgroup_kill(cg, KILL_TIMEOUT_US, err);
}

/* The same records as a monitor leaves. */
static int record_end(const struct container *c, const struct container_state *st, struct error *err)
{
	struct container_state end = *st;

	end.status = CONTAINER_EXITED;
	end.pid = end.monitor_pid = 0;
	end.exit_code = -1;
	end.finished_us = clock_real_us();
	(void)snprintf(end.reason, sizeof(end.reason), "its monitor was gone, so the exit status is not known");
	return container_state_write(c, &end, err);
}

static int end_without_monitor(const struct container *c, const struct container_state *st,
			       struct error *err)
{
	if (container_clean(c, true, err) < 0)
		return -err->code;
	return record_end(c, st, err);
}

static int thaw(const struct container *c, struct error *err)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;

	if (container_cgroup(c, false, &cg, err) < 0 || cgroup_thaw(cg, err) < 0)
		return error_wrap(err, "container '%s'", c->name);
	return 0;
}

/* Between two lives of the container its monitor listens anew. */
int end_announce(const struct container *c, const struct container_state *st, struct error *err)
{
	uint64_t until_us = clock_us() + ANNOUNCE_TIMEOUT_US;
	CLEANUP(fd_closep) int sock = -EBADF;
	struct monitor_message m;
	int r;

	if (c->spec->restart.kind == RESTART_NO || !st->monitor_alive)
		return 0;
	while ((r = monitor_connect(c, &sock, err)) == -ECONNREFUSED && clock_us() < until_us &&
	       container_pid_start(st->monitor_pid) == st->monitor_start)
		(void)usleep(LOOK_AGAIN_US);
	if (r == 0)
		r = monitor_call(sock, MONITOR_STOP, -EBADF, &m, err);
	/* It has given up by itself meanwhile. */
	return container_pid_start(st->monitor_pid) != st->monitor_start ? 0 : r;
}

int end_begin(const struct container *c, const struct container_state *st, int sig, uint64_t timeout_us,
	      struct ending *ret, struct error *err)
{
	CLEANUP(fd_closep) int monitor = st->monitor_alive ? pidfd_open(st->monitor_pid, 0) : -EBADF;

	*ret = (struct ending){ .monitor_fd = -EBADF };
	if (monitor < 0 || container_pid_start(st->monitor_pid) != st->monitor_start)
		return end_without_monitor(c, st, err);
	if (end_announce(c, st, err) < 0)
		return -err->code;
	if (st->status == CONTAINER_RESTARTING || !st->alive)
		sig = 0;
	if (sig && (end_signal(c, st, sig, err) < 0 ||
		    (st->status == CONTAINER_PAUSED && thaw(c, err) < 0)))
		return -err->code;
	if (!sig && kill_all(c, err) < 0)
		return error_wrap(err, "container '%s'", c->name);
	ret->killed = !sig;
	ret->until_us = clock_us() + (sig ? timeout_us : KILL_TIMEOUT_US);
	ret->monitor_fd = TAKE_FD(monitor);
	return 0;
}

int end_wait(const struct container *c, struct ending *e, struct error *err)
{
	CLEANUP(fd_closep) int monitor = TAKE_FD(e->monitor_fd);

	if (monitor < 0 || wait_gone(monitor, e->until_us))
		return 0;
	if (!e->killed && kill_all(c, err) < 0)
		return error_wrap(err, "container '%s'", c->name);
	if (!e->killed && wait_gone(monitor, clock_us() + KILL_TIMEOUT_US))
		return 0;
	return error_set(err, ETIMEDOUT, "container '%s': its monitor does not end", c->name);
}

int end_parse_signal(const char *text, int *ret, struct error *err)
{
	const char *name = strncasecmp(text, "SIG", 3) == 0 ? text + 3 : text;
	char *end;
	long v = strtol(text, &end, 10);

	if (end != text && !*end && v > 0 && v <= SIGRTMAX) {
		*ret = (int)v;
		return 0;
	}
	for (int i = 1; i < NSIG; i++) {
		const char *known = sigabbrev_np(i);

		if (known && !strcasecmp(known, name)) {
			*ret = i;
			return 0;
		}
	}
	return error_set(err, EINVAL, "'%.40s' is no signal; give a name like TERM or a number", text);
}
