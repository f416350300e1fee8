#include <poll.h>
#include <string.h>

#include "engine/base/cleanup.h"
#include "engine/cgroup/cgroup.h"
#include "tools/oci.h"

#define INTERVAL_US 5000000

struct events_options {
	uint64_t interval_us;
	bool stats;
};

static const struct option_row rows[] = {
	OPTION(0, "interval", DURATION, "TIME", struct events_options, interval_us, "how often [5s]"),
	OPTION(0, "stats", FLAG, NULL, struct events_options, stats, "once, and end"),
	OPTION_END,
};

static const struct events_options defaults = { .interval_us = INTERVAL_US };

static json_t *number_of(const struct cgroup *cg, const char *controller, const char *file)
{
	CLEANUP(freep) char *text = NULL;
	struct error ignored;

	if (cgroup_read_setting(cg, controller, file, &text, &ignored) < 0 || *text < '0' || *text > '9')
		return json_integer(0);
	return json_integer((json_int_t)strtoull(text, NULL, 10));
}

/* The number that follows a word in a file of "WORD NUMBER" lines. */
static uint64_t word_of(const struct cgroup *cg, const char *controller, const char *file, const char *word)
{
	CLEANUP(freep) char *text = NULL;
	struct error ignored;
	char *save = NULL;

	if (cgroup_read_setting(cg, controller, file, &text, &ignored) < 0)
		return 0;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (!strncmp(line, word, strlen(word)) && line[strlen(word)] == ' ')
			return strtoull(line + strlen(word) + 1, NULL, 10);
	return 0;
}

static uint64_t oom_kills(const struct cgroup *cg, bool pure_v2)
{
	return pure_v2 ? word_of(cg, "memory", "memory.events", "oom_kill") :
			 word_of(cg, "memory", "memory.oom_control", "oom_kill");
}

static json_t *stats_of(const struct cgroup *cg, bool v2)
{
	struct cgroup_usage usage = { 0 };
	struct error ignored;

	(void)cgroup_get_usage(cg, &usage, &ignored);
	return json_pack("{s:{s:{s:I}, s:{s:I, s:I, s:I}}, s:{s:{s:I, s:o, s:o}, s:{s:o, s:o}}, s:{s:I, s:o}}",
			 "cpu", "usage", "total", (json_int_t)usage.cpu_us * 1000,
			 "throttling", "periods", (json_int_t)word_of(cg, "cpu", "cpu.stat", "nr_periods"),
			 "throttledPeriods", (json_int_t)word_of(cg, "cpu", "cpu.stat", "nr_throttled"),
			 "throttledTime", (json_int_t)(v2 ? 1000 * word_of(cg, "cpu", "cpu.stat", "throttled_usec") :
						       word_of(cg, "cpu", "cpu.stat", "throttled_time")),
			 "memory", "usage", "usage", (json_int_t)usage.memory_bytes,
			 "limit", number_of(cg, "memory", v2 ? "memory.max" : "memory.limit_in_bytes"),
			 "max", number_of(cg, "memory", v2 ? "memory.peak" : "memory.max_usage_in_bytes"),
			 "swap", "usage",
			 number_of(cg, "memory", v2 ? "memory.swap.current" : "memory.memsw.usage_in_bytes"),
			 "limit", number_of(cg, "memory", v2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes"),
			 "pids", "current", (json_int_t)usage.pids, "limit", number_of(cg, "pids", "pids.max"));
}

/* One line an event. */
static int print_event(const struct oci_container *c, const char *type, json_t *data)
{
	json_t *event = data ? json_pack("{s:s, s:s, s:o}", "type", type, "id", c->id, "data", data) :
			       json_pack("{s:s, s:s}", "type", type, "id", c->id);
	int r = event ? json_dumpf(event, stdout, JSON_COMPACT) : -1;

	json_decref(event);
	return r < 0 || putchar('\n') == EOF || fflush(stdout) ? -EIO : 0;
}

/* Until it has ended. */
static int watch(const struct oci_container *c, const struct events_options *o, struct error *err)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	CLEANUP(fd_closep) int init = -EBADF;
	bool v2 = false;
	uint64_t kills, before;

	if (oci_container_cgroup(c, &cg, err) < 0 || cgroup_is_pure_v2(&v2, err) < 0 ||
	    oci_container_pidfd(c, &init, err) < 0)
		return -err->code;
	before = oom_kills(cg, v2);
	for (;;) {
		struct pollfd p = { .fd = init, .events = POLLIN };

		if (print_event(c, "stats", stats_of(cg, v2)) < 0)
			return 0;		/* nobody reads any more */
		if (o->stats || poll(&p, 1, (int)(o->interval_us / 1000)) > 0)
			return 0;
		kills = oom_kills(cg, v2);
		if (kills > before && print_event(c, "oom", NULL) < 0)
			return 0;
		before = kills;
	}
}

static int events_run(const struct invocation *inv)
{
	CLEANUP(oci_container_freep) struct oci_container *c = oci_open(inv);
	struct error err;

	if (!c)
		return EXIT_FAILED;
	return watch(c, inv->options, &err) < 0 ? oci_fail(inv, &err) : EXIT_OK;
}

const struct command command_oci_events = {
	.name = "oci events", .usage = "ID", .summary = "print what a container uses, and that it ran out of memory",
	.options = rows, .options_size = sizeof(struct events_options), .defaults = &defaults,
	.min_args = 1, .max_args = 1, .run = events_run,
};
