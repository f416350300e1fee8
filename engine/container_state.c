/* state.json, and what the kernel says about it. */
#include <jansson.h>
#include <signal.h>
#include <string.h>

#include "engine/base/fd.h"
#include "engine/container.h"

#define STATE_JSON "state.json"
#define STATE_JSON_LIMIT 65536

static const struct {
	const char *name;
	bool live;
} statuses[CONTAINER_STATUS_MAX_] = {
	[CONTAINER_CREATED] = { "created", false },
	[CONTAINER_RUNNING] = { "running", true },
	[CONTAINER_PAUSED] = { "paused", true },
	[CONTAINER_MIGRATING] = { "migrating", true },
	[CONTAINER_IN_DOUBT] = { "in-doubt", true },
	[CONTAINER_INCOMING] = { "incoming", false },
	[CONTAINER_RESTARTING] = { "restarting", false },
	[CONTAINER_EXITED] = { "exited", false },
};

const char *container_status_name(enum container_status s)
{
	return statuses[s].name;
}

bool container_status_is_live(enum container_status s)
{
	return statuses[s].live;
}

bool container_state_is_oom(const struct container_state *s)
{
	return s->status == CONTAINER_EXITED && s->oom_kills && s->exit_code == 128 + SIGKILL;
}

bool container_status_is_active(enum container_status s)
{
	return statuses[s].live || s == CONTAINER_RESTARTING;
}

static int status_from_name(const char *name)
{
	for (int i = 0; i < CONTAINER_STATUS_MAX_; i++)
		if (!strcmp(statuses[i].name, name))
			return i;
	return -1;
}

/* The name in /proc/PID/stat may hold blanks and brackets: count from the
 * last ')', after which field 3 begins. proc_pid_stat(5). */
uint64_t container_pid_start(pid_t pid)
{
	CLEANUP(freep) char *text = NULL;
	unsigned long long start = 0;
	char path[32], *p;
	struct error ignored;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (pid <= 0 || fd_read_file_at(-EBADF, path, 8192, &text, NULL, &ignored) < 0)
		return 0;
	p = strrchr(text, ')');
	if (p && (p[2] == 'Z' || p[2] == 'X'))
		return 0;
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (p)
		start = strtoull(p, NULL, 10);
	return start;
}

bool container_is_traced(pid_t pid)
{
	CLEANUP(freep) char *text = NULL;
	char path[32];
	struct error ignored;
	const char *at;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	if (fd_read_file_at(-EBADF, path, 65536, &text, NULL, &ignored) < 0)
		return false;
	at = strstr(text, "\nTracerPid:");
	return at && strtol(at + strlen("\nTracerPid:"), NULL, 10) > 0;
}

void container_boot_id(char ret[40])
{
	CLEANUP(freep) char *text = NULL;
	struct error ignored;

	ret[0] = '\0';
	if (fd_read_file_at(-EBADF, "/proc/sys/kernel/random/boot_id", 100, &text, NULL, &ignored) == 0)
		(void)snprintf(ret, 40, "%.*s", (int)strcspn(text, "\n"), text);
}

void container_state_stamp(struct container_state *s, pid_t pid, pid_t monitor)
{
	container_boot_id(s->boot_id);
	s->pid = pid;
	s->pid_start = container_pid_start(pid);
	s->monitor_pid = monitor;
	s->monitor_start = container_pid_start(monitor);
}

int container_state_write(const struct container *c, const struct container_state *s,
			  struct error *err)
{
	json_t *root = json_pack("{s:s,s:i,s:I,s:i,s:I,s:s,s:i,s:I,s:I,s:i,s:i,s:i,s:b,s:b,s:s,s:i,s:[I,I,I],s:s}",
		"status", container_status_name(s->status), "pid", (int)s->pid,
		"pid_start", (json_int_t)s->pid_start, "monitor_pid", (int)s->monitor_pid,
		"monitor_start", (json_int_t)s->monitor_start, "boot_id", s->boot_id,
		"exit_code", s->exit_code,
		"started_us", (json_int_t)s->started_us, "finished_us", (json_int_t)s->finished_us,
		"migrations", (int)s->migrations, "oom_kills", (int)s->oom_kills,
		"restarts", (int)s->restarts, "stopped", s->stopped, "was_paused", s->was_paused,
		"health", health_name(s->health.status),
		"health_failures", (int)s->health.failures, "stdio", (json_int_t)s->stdio[0],
		(json_int_t)s->stdio[1], (json_int_t)s->stdio[2], "reason", s->reason);
	CLEANUP(freep) char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;

	json_decref(root);
	if (!text)
		return error_set(err, ENOMEM, "container '%s': write its state: out of memory", c->name);
	if (fd_replace_file_at(c->dir_fd, STATE_JSON, text, strlen(text), 0600, FD_REPLACE, err) < 0)
		return error_wrap(err, "container '%s'", c->name);
	return 0;
}

static int parse_state(const char *text, struct container_state *s, struct error *err)
{
	json_error_t je;
	json_t *root = json_loads(text, 0, &je);
	const char *status = NULL, *boot_id = "", *reason = "", *health = "none";
	json_int_t stdio[3] = { 0 };
	json_int_t pid_start = 0, monitor_start = 0, started = 0, finished = 0;
	int pid = 0, monitor = 0, migrations = 0, oom_kills = 0, exit_code = -1, known;
	int restarts = 0, stopped = 0, was_paused = 0, failures = 0;

	if (!root || json_unpack_ex(root, &je, 0,
			"{s:s,s:i,s:I,s:i,s:I,s:s,s:i,s:I,s:I,s:i,s?i,s?i,s?b,s?b,s?s,s?i,s?[I,I,I],s:s}",
			"status", &status, "pid", &pid, "pid_start", &pid_start,
			"monitor_pid", &monitor, "monitor_start", &monitor_start, "boot_id", &boot_id,
			"exit_code", &exit_code, "started_us", &started,
			"finished_us", &finished, "migrations", &migrations, "oom_kills", &oom_kills,
			"restarts", &restarts, "stopped", &stopped, "was_paused", &was_paused, "health", &health,
			"health_failures", &failures, "stdio", &stdio[0], &stdio[1], &stdio[2],
			"reason", &reason) < 0) {
		json_decref(root);
		return error_set(err, EINVAL, STATE_JSON ": %s", je.text);
	}
	known = status_from_name(status);
	s->status = known < 0 ? CONTAINER_EXITED : (enum container_status)known;
	s->pid = pid;
	s->pid_start = (uint64_t)pid_start;
	s->monitor_pid = monitor;
	s->monitor_start = (uint64_t)monitor_start;
	s->started_us = (uint64_t)started;
	s->finished_us = (uint64_t)finished;
	s->exit_code = exit_code;
	for (int i = 0; i < 3; i++)
		s->stdio[i] = (uint64_t)stdio[i];
	s->migrations = (uint32_t)migrations;
	s->oom_kills = (uint32_t)oom_kills;
	s->restarts = (uint32_t)restarts;
	s->stopped = stopped;
	s->was_paused = was_paused;
	s->health = (struct health){ .status = health_from_name(health), .failures = (uint32_t)failures };
	(void)snprintf(s->boot_id, sizeof(s->boot_id), "%s", boot_id);
	(void)snprintf(s->reason, sizeof(s->reason), "%s", reason);
	json_decref(root);
	return known < 0 ? error_set(err, EINVAL, STATE_JSON ": unknown status") : 0;
}

static bool is_frozen(const struct container *c)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	struct error ignored;
	bool frozen = false;

	return container_cgroup(c, false, &cg, &ignored) == 0 &&
	       cgroup_is_frozen(cg, &frozen, &ignored) == 0 && frozen;
}

static void check_against_kernel(const struct container *c, struct container_state *s)
{
	char boot_id[40];
	bool same_boot;

	container_boot_id(boot_id);
	same_boot = !strcmp(boot_id, s->boot_id);
	s->monitor_alive = same_boot && s->monitor_pid &&
			   container_pid_start(s->monitor_pid) == s->monitor_start;
	s->alive = same_boot && s->pid && container_pid_start(s->pid) == s->pid_start;
	if (s->status == CONTAINER_RESTARTING && !s->monitor_alive) {
		s->status = CONTAINER_EXITED;
		(void)snprintf(s->reason, sizeof(s->reason), "%s", same_boot ?
			       "its monitor was killed before it could start it again" : "the machine was restarted");
	}
	if (!container_status_is_live(s->status))
		return;
	if (faccessat(c->dir_fd, "handover.json", F_OK, 0) == 0) {
		s->status = CONTAINER_IN_DOUBT;
	} else if (!s->alive && !s->monitor_alive) {
		s->status = CONTAINER_EXITED;
		s->exit_code = -1;
		(void)snprintf(s->reason, sizeof(s->reason), "%s", same_boot ?
			       "its monitor was killed, so the exit status is not known" :
			       "the machine was restarted");
	} else if (s->status == CONTAINER_RUNNING ||
		   (s->status == CONTAINER_MIGRATING && !s->monitor_alive)) {
		/* Without its monitor whoever locks it next ends the freeze. */
		s->abandoned = s->status == CONTAINER_MIGRATING && s->alive;
		s->status = is_frozen(c) ? CONTAINER_PAUSED : CONTAINER_RUNNING;
	}
}

int container_state(const struct container *c, struct container_state *ret, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	struct container_state s = { 0 };

	if (fd_read_file_at(c->dir_fd, STATE_JSON, STATE_JSON_LIMIT, &text, NULL, err) < 0 ||
	    parse_state(text, &s, err) < 0)
		return error_wrap(err, "container '%s'", c->name);
	check_against_kernel(c, &s);
	*ret = s;
	return 0;
}
