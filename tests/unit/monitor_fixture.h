/*
 * monitor_fixture.h - real monitors, whose containers are one plain process in a cgroup
 *
 * It says hello, repeats each line that it reads, and at "exit" ends with 7.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "engine/base/clock.h"
#include "engine/monitor/monitor.h"
#include "engine/monitor/output.h"
#include "tests/unit/node_fixture.h"

#define PATIENCE_US 20000000

struct rig {
	struct home *home;
	struct container *c;
	struct cgroup *cg;
	int control;
};

static inline _Noreturn void be_container(const struct monitor_setup *s)
{
	char line[256];

	for (int i = 0; i < 3; i++)
		if (s->stdio[i] >= 0)
			(void)dup2(s->stdio[i], i);
	(void)close_range(3, ~0U, 0);
	(void)!write(1, "hello\n", 6);
	for (;;) {
		ssize_t n = read(0, line, sizeof(line));

		if (n <= 0)
			(void)pause();
		if (n == 5 && !memcmp(line, "exit\n", 5))
			_exit(7);
		(void)!write(2, line, (size_t)n);
	}
}

static inline int start(struct monitor_setup *s, void *ctx, pid_t *ret_pid, int *ret_terminal, struct error *err)
{
	(void)ctx;
	*ret_terminal = -EBADF;
	*ret_pid = fork();
	if (*ret_pid == 0)
		be_container(s);
	return *ret_pid < 0 ? error_set(err, errno, "fork") : cgroup_join(s->cgroup, *ret_pid, err);
}

static inline void receive(int fd, uint32_t op, struct monitor_message *m)
{
	struct error err;

	OK(monitor_receive(fd, m, &err));
	if (m->op != op)
		fail_msg("message %u instead of %u: %.*s", m->op, op, (int)m->len, m->data);
}

static inline struct rig *rig_new(struct home *h, const struct monitor_plan *plan)
{
	const struct timeval patience = { .tv_sec = PATIENCE_US / 1000000 };
	struct rig *r = calloc(1, sizeof(*r));
	struct error err;

	r->home = h;
	r->c = home_container(h, "web", "", CONTAINER_CREATED);
	OK(monitor_spawn(r->c, plan, &r->control, &err));
	(void)setsockopt(r->control, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return r;
}

static inline void rig_free(struct rig *r)
{
	fd_close(&r->control);
	cgroup_free(r->cg);
	container_free(r->c);
	free(r);
}

/* One that lives, attached to the control socket. */
static inline struct rig *live(struct home *h)
{
	const struct monitor_plan plan = { .start = start, .attach = true };
	struct rig *r = rig_new(h, &plan);
	struct monitor_message m;
	struct error err;

	receive(r->control, MONITOR_STARTED, &m);
	assert_int_equal(m.value[0], 0);
	receive(r->control, MONITOR_OUTPUT, &m);
	assert_int_equal(m.len, 6);
	assert_memory_equal(m.data, "hello\n", 6);
	OK(container_cgroup(r->c, false, &r->cg, &err));
	return r;
}

static inline int client(const struct rig *r)
{
	const struct timeval patience = { .tv_sec = PATIENCE_US / 1000000 };
	struct error err;
	int fd;

	OK(monitor_connect(r->c, &fd, &err));
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

static inline struct container_state state_of(const struct rig *r)
{
	struct container_state st;
	struct error err;

	OK(container_state(r->c, &st, &err));
	return st;
}

static inline bool frozen(const struct rig *r)
{
	struct error err;
	bool now;

	OK(cgroup_is_frozen(r->cg, &now, &err));
	return now;
}

static inline void await_status(const struct rig *r, enum container_status s)
{
	uint64_t end = clock_us() + PATIENCE_US;

	while (state_of(r).status != s) {
		if (clock_us() > end)
			fail_msg("it is %s", container_status_name(state_of(r).status));
		(void)usleep(2000);
	}
}

/* The monitor has dealt with all that came before. */
static inline void round_trip(const struct rig *r)
{
	CLEANUP(fd_closep) int fd = client(r);
	struct monitor_message m;
	struct error err;

	FAILS(monitor_call(fd, MONITOR_RESIZE, -EBADF, &m, &err), ENOTTY, "");
}

static inline void say(const struct rig *r, const char *line)
{
	struct error err;

	OK(monitor_send(r->control, MONITOR_STDIN, NULL, line, strlen(line), -EBADF, &err));
}

static inline void end(struct rig *r)
{
	struct monitor_message m;
	struct error err;

	say(r, "exit\n");
	do
		OK(monitor_receive(r->control, &m, &err));
	while (m.op == MONITOR_OUTPUT);
	assert_int_equal(m.op, MONITOR_WAIT);
	assert_int_equal(m.code, 7);
	rig_free(r);
}

static inline void freeze(int fd)
{
	struct monitor_message m;
	struct error err;

	OK(monitor_call(fd, MONITOR_FREEZE, -EBADF, &m, &err));
	assert_true(m.value[0] > 1600000000000000);
	assert_true(m.value[1] && m.value[2] && m.value[3]);
}
