#include <jansson.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "engine/base/units.h"
#include "tools/commands.h"
#include "tools/table.h"

#define NET_DEV_MAX 65536
#define CLEAR_SCREEN "\033[H\033[J"

struct stats_options {
	bool json, once;
	uint64_t interval_us;
};

static const struct option_row rows[] = {
	OPTION('i', "interval", DURATION, "TIME", struct stats_options, interval_us, "time between two looks [1s]"),
	OPTION(0, "no-stream", FLAG, NULL, struct stats_options, once, "one table, and end"),
	OPTION(0, "json", FLAG, NULL, struct stats_options, json, "one JSON array a look, each on a line"),
	OPTION_END,
};

/* What was counted of a container at one moment. */
struct sample {
	char name[SPEC_NAME_MAX + 1];
	uint64_t at_us, received_bytes, sent_bytes;
	struct cgroup_usage usage;
	struct cgroup_limits limits;
};

struct samples {
	struct sample *list;
	size_t n;
};

static volatile sig_atomic_t ended;

static void end(int sig)
{
	(void)sig;
	ended = 1;
}

/* As the container sees it: /proc/PID/net/dev without lo. proc_pid_net(5): received
 * bytes are the first number behind an interface's name, sent bytes the ninth. */
static void read_network(pid_t pid, struct sample *s)
{
	CLEANUP(freep) char *text = NULL;
	char path[40], *save = NULL;
	struct error ignored;

	(void)snprintf(path, sizeof(path), "/proc/%d/net/dev", (int)pid);
	if (fd_read_file_at(-EBADF, path, NET_DEV_MAX, &text, NULL, &ignored) < 0)
		return;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		unsigned long long in, out;
		char name[32];

		if (sscanf(line, " %31[^:]: %llu %*u %*u %*u %*u %*u %*u %*u %llu", name, &in, &out) != 3 ||
		    !strcmp(name, "lo"))
			continue;
		s->received_bytes += in;
		s->sent_bytes += out;
	}
}

/* 1: it does not run. */
static int look(const struct node *node, const char *name, struct sample *s, struct error *err)
{
	CLEANUP(container_freep) struct container *c = NULL;
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	struct container_state st;

	*s = (struct sample){ .at_us = clock_us() };
	(void)snprintf(s->name, sizeof(s->name), "%s", name);
	if (container_open(node, name, &c, err) < 0 || container_state(c, &st, err) < 0)
		return -err->code;
	if (!container_status_is_live(st.status) || !st.alive)
		return 1;
	if (container_cgroup(c, false, &cg, err) < 0 || cgroup_get_usage(cg, &s->usage, err) < 0 ||
	    cgroup_get_limits(cg, &s->limits, err) < 0)
		return -err->code;
	s->usage.oom_kills += st.oom_kills;
	read_network(st.pid, s);
	return 0;
}

/* Those that are named, or all that run; whoever ends meanwhile is left out. */
static int look_at_all(const struct invocation *inv, struct samples *ret)
{
	char **names = NULL;
	struct error err;
	size_t n = (size_t)inv->argc;
	int code = EXIT_OK;

	if (!n && container_list(inv->node, &names, &n, &err) < 0)
		return command_fail(&err, EXIT_FAILED);
	ret->list = calloc(n + 1, sizeof(*ret->list));
	for (size_t i = 0; ret->list && i < n; i++) {
		int r = look(inv->node, names ? names[i] : inv->argv[i], &ret->list[ret->n], &err);

		ret->n += r == 0;
		if (r < 0 && inv->argc)
			code = command_fail(&err, EXIT_FAILED);
	}
	for (size_t i = 0; names && i < n; i++)
		free(names[i]);
	free(names);
	return code;
}

static const struct sample *find(const struct samples *all, const char *name)
{
	for (size_t i = 0; i < all->n; i++)
		if (!strcmp(all->list[i].name, name))
			return &all->list[i];
	return NULL;
}

/* Of one processor, in percent; a container that was restarted meanwhile begins anew. */
static double cpu_percent(const struct sample *s, const struct samples *before)
{
	const struct sample *b = find(before, s->name);

	return b && s->at_us > b->at_us && s->usage.cpu_us >= b->usage.cpu_us ?
		(double)(s->usage.cpu_us - b->usage.cpu_us) * 100 / (double)(s->at_us - b->at_us) : 0;
}

static void print_json(const struct samples *now, const struct samples *before)
{
	json_t *list = json_array();

	for (size_t i = 0; i < now->n; i++) {
		const struct sample *s = &now->list[i];
		const struct cgroup_usage *u = &s->usage;

		(void)json_array_append_new(list, json_pack(
			"{s:s,s:f,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}",
			"name", s->name, "cpu_pct", cpu_percent(s, before), "cpu_us", (json_int_t)u->cpu_us,
			"cpu_throttled_us", (json_int_t)u->throttled_us,
			"cpu_limit_millis", (json_int_t)s->limits.cpu_millis,
			"memory_bytes", (json_int_t)u->memory_bytes,
			"memory_working_bytes", (json_int_t)u->working_bytes,
			"memory_peak_bytes", (json_int_t)u->peak_bytes,
			"memory_limit_bytes", (json_int_t)s->limits.memory_bytes, "oom_kills", (json_int_t)u->oom_kills,
			"pids", (json_int_t)u->pids, "pids_limit", (json_int_t)s->limits.pids,
			"received_bytes", (json_int_t)s->received_bytes, "sent_bytes", (json_int_t)s->sent_bytes,
			"read_bytes", (json_int_t)u->read_bytes, "written_bytes", (json_int_t)u->written_bytes));
	}
	(void)json_dumpf(list, stdout, JSON_COMPACT);
	(void)puts("");
	json_decref(list);
}

static const char *pair(uint64_t a, uint64_t b, char buf[2 * UNITS_TEXT_SIZE])
{
	char first[UNITS_TEXT_SIZE], second[UNITS_TEXT_SIZE];

	(void)snprintf(buf, 2 * UNITS_TEXT_SIZE, "%s / %s", units_format_size(a, first),
		       units_format_size(b, second));
	return buf;
}

static void add_row(struct table *t, const struct sample *s, const struct samples *before)
{
	char cpu[24], memory[2 * UNITS_TEXT_SIZE], share[24] = "-", net[2 * UNITS_TEXT_SIZE];
	char io[2 * UNITS_TEXT_SIZE], pids[16], oom[24];
	const struct cgroup_usage *u = &s->usage;

	(void)snprintf(cpu, sizeof(cpu), "%.1f", cpu_percent(s, before));
	(void)units_format_size(u->working_bytes, memory);
	if (s->limits.memory_bytes) {
		(void)pair(u->working_bytes, s->limits.memory_bytes, memory);
		(void)snprintf(share, sizeof(share), "%.1f",
			       (double)u->working_bytes * 100 / (double)s->limits.memory_bytes);
	}
	(void)snprintf(pids, sizeof(pids), "%u", (unsigned)u->pids);
	(void)snprintf(oom, sizeof(oom), "%llu", (unsigned long long)u->oom_kills);
	table_add(t, (const char *const[]){ s->name, cpu, memory, share, pair(s->received_bytes, s->sent_bytes, net),
					    pair(u->read_bytes, u->written_bytes, io), pids, oom });
}

static int print_table(const struct samples *now, const struct samples *before)
{
	static const char *const headings[] = { "NAME", "CPU%", "MEMORY", "MEM%", "NET IN / OUT", "DISK IN / OUT",
						"PIDS", "OOM", NULL };
	CLEANUP(table_freep) struct table *t = table_new(headings);

	for (size_t i = 0; t && i < now->n; i++)
		add_row(t, &now->list[i], before);
	return t ? table_print(t) : -ENOMEM;
}

static int show(const struct stats_options *o, const struct samples *now, const struct samples *before)
{
	if (!o->once && !o->json && isatty(STDOUT_FILENO))
		fputs(CLEAR_SCREEN, stdout);
	if (o->json)
		print_json(now, before);
	else if (print_table(now, before) < 0)
		return EXIT_FAILED;
	return fflush(stdout) || ferror(stdout) ? EXIT_FAILED : EXIT_OK;
}

static void pause_for(uint64_t us)
{
	const struct timespec t = { .tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000 };

	(void)nanosleep(&t, NULL);
}

static int stats_run(const struct invocation *inv)
{
	const struct stats_options *o = inv->options;
	struct samples before = { 0 }, now = { 0 };
	int code = look_at_all(inv, &before);

	(void)sigaction(SIGINT, &(const struct sigaction){ .sa_handler = end }, NULL);
	(void)sigaction(SIGTERM, &(const struct sigaction){ .sa_handler = end }, NULL);
	while (code == EXIT_OK && !ended) {
		pause_for(o->interval_us);
		if (ended)
			break;
		code = look_at_all(inv, &now);
		if (code == EXIT_OK)
			code = show(o, &now, &before);
		free(before.list);
		before = now;
		now = (struct samples){ 0 };
		if (o->once)
			break;
	}
	free(before.list);
	free(now.list);
	return code;
}

const struct command command_stats = {
	.name = "stats", .usage = "[NAME]...", .summary = "show what containers use, again and again",
	.notes = "CPU% is of one processor. MEMORY is without the file cache that can be dropped at once.\n"
		 "NET is as the container sees it. OOM: processes that were killed for their memory.\n",
	.options = rows, .options_size = sizeof(struct stats_options),
	.defaults = &(const struct stats_options){ .interval_us = 1000000 },
	.max_args = ARGS_MANY, .run = stats_run,
};
