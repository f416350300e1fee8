/* What the kernel counts for a container's control groups. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/fd.h"
#include "engine/cgroup/cgroup_layout.h"

#define STAT_MAX 65536

/* NULL when this host does not count it. */
static char *read_stat(int dirfd, const char *file)
{
	struct error ignored;
	char *text = NULL;

	if (dirfd >= 0)
		(void)fd_read_file_at(dirfd, file, STAT_MAX, &text, NULL, &ignored);
	return text;
}

/* The number of a line "key N"; 0 when there is none. */
static uint64_t line_value(const char *text, const char *key)
{
	size_t len = strlen(key);

	for (const char *line = text; line; line = (line = strchr(line, '\n')) ? line + 1 : NULL)
		if (!strncmp(line, key, len) && line[len] == ' ')
			return strtoull(line + len + 1, NULL, 10);
	return 0;
}

/* All numbers behind a word that ends in a blank (v1) or in '=' (v2). */
static uint64_t sum_after(const char *text, const char *word)
{
	uint64_t sum = 0;

	for (const char *at = text ? strstr(text, word) : NULL; at; at = strstr(at, word)) {
		at += strlen(word);
		sum += strtoull(at, NULL, 10);
	}
	return sum;
}

static int read_memory(const struct cgroup *cg, struct cgroup_usage *u, struct error *err)
{
	int fd = cgroup_controller_fd(cg, CGROUP_MEMORY);
	CLEANUP(freep) char *stat = read_stat(fd, "memory.stat");
	CLEANUP(freep) char *events = read_stat(fd, cg->pure_v2 ? "memory.events" : "memory.oom_control");
	uint64_t now[2], peak[2], cache = line_value(stat, cg->pure_v2 ? "inactive_file" : "total_inactive_file");

	if (cgroup_read_values(fd, cg->pure_v2 ? "memory.current" : "memory.usage_in_bytes", now, err) < 0 ||
	    cgroup_read_values(fd, cg->pure_v2 ? "memory.peak" : "memory.max_usage_in_bytes", peak, err) < 0)
		return -err->code;
	u->memory_bytes = now[0];
	u->working_bytes = now[0] > cache ? now[0] - cache : 0;
	u->peak_bytes = peak[0];
	u->oom_kills = line_value(events, "oom_kill");
	return 0;
}

/* v2 counts processor time in cpu.stat, with or without its cpu controller. */
static int read_cpu(const struct cgroup *cg, struct cgroup_usage *u, struct error *err)
{
	CLEANUP(freep) char *v2 = NULL;
	CLEANUP(freep) char *v1 = cg->pure_v2 ? NULL : read_stat(cg->fd[CGROUP_CPU], "cpu.stat");

	if (fd_read_file_at(cg->fd[CGROUP_V2], "cpu.stat", STAT_MAX, &v2, NULL, err) < 0)
		return -err->code;
	u->cpu_us = line_value(v2, "usage_usec");
	u->throttled_us = v1 ? line_value(v1, "throttled_time") / 1000 : line_value(v2, "throttled_usec");
	return 0;
}

static void read_io(const struct cgroup *cg, struct cgroup_usage *u)
{
	int fd = cgroup_controller_fd(cg, CGROUP_BLKIO);
	CLEANUP(freep) char *text = read_stat(fd, cg->pure_v2 ? "io.stat" :
							   "blkio.throttle.io_service_bytes_recursive");

	u->read_bytes = sum_after(text, cg->pure_v2 ? "rbytes=" : "Read ");
	u->written_bytes = sum_after(text, cg->pure_v2 ? "wbytes=" : "Write ");
}

int cgroup_get_usage(const struct cgroup *cg, struct cgroup_usage *ret, struct error *err)
{
	struct cgroup_usage usage = { 0 };
	uint64_t pids[2];

	if (read_memory(cg, &usage, err) < 0 || read_cpu(cg, &usage, err) < 0 ||
	    cgroup_read_values(cgroup_controller_fd(cg, CGROUP_PIDS), "pids.current", pids, err) < 0)
		return error_wrap(err, "cgroup %s/%s", cg->parent, cg->name);
	read_io(cg, &usage);
	usage.pids = pids[0];
	*ret = usage;
	return 0;
}
