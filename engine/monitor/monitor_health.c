/* When a health check begins, and what its end means. */
#include <sys/wait.h>

#include "engine/base/clock.h"
#include "engine/monitor/health.h"
#include "engine/monitor/monitor_state.h"

static const struct health_check *check_of(const struct monitor *m)
{
	return &m->setup.container->spec->health;
}

/* Also after a move: what it was then it is, until the next result. */
void monitor_health_begin(struct monitor *m)
{
	m->check_pid = 0;
	m->check_at_us = clock_us() + check_of(m)->interval_us;
}

static bool rests(const struct monitor *m)
{
	struct error ignored;
	bool frozen = true;

	for (size_t i = 0; i < m->n_clients; i++)
		if (m->clients[i].mover)
			return true;
	return m->lease.active || m->setup.guard.fd >= 0 || monitor_is_decided(m) ||
	       cgroup_is_frozen(m->setup.cgroup, &frozen, &ignored) < 0 || frozen;
}

uint64_t monitor_health_due_us(const struct monitor *m)
{
	return check_of(m)->command && !m->check_pid ? m->check_at_us : UINT64_MAX;
}

void monitor_health_turn(struct monitor *m)
{
	struct error ignored;

	if (m->done || m->discarded || monitor_health_due_us(m) > clock_us())
		return;
	m->check_at_us = clock_us() + check_of(m)->interval_us;
	if (!rests(m))
		(void)health_start(m->setup.container, &m->check_pid, &ignored);
}

bool monitor_health_reaped(struct monitor *m, pid_t pid, int status)
{
	uint64_t now = clock_real_us(), start = m->state.started_us;
	struct health before = m->state.health;

	if (pid != m->check_pid)
		return false;
	m->check_pid = 0;
	m->check_at_us = clock_us() + check_of(m)->interval_us;
	if (m->done)
		return true;
	(void)health_note(&m->state.health, check_of(m), WIFEXITED(status) && WEXITSTATUS(status) == 0,
			  now > start ? now - start : 0);
	if (before.status != m->state.health.status || before.failures != m->state.health.failures)
		monitor_write_state(m);
	return true;
}

int monitor_health_pause(struct monitor *m, struct error *err)
{
	int r = m->check_pid ? health_end(m->check_pid, err) : 0;

	if (r == 0)
		m->check_pid = 0;
	return r;
}
