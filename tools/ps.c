#include <jansson.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/units.h"
#include "engine/monitor/monitor.h"
#include "migrate/handover.h"
#include "tools/commands.h"
#include "tools/table.h"

struct ps_options {
	bool all, json, quiet;
};

static const struct option_row rows[] = {
	OPTION('a', "all", FLAG, NULL, struct ps_options, all, "also those that do not run"),
	OPTION('q', "quiet", FLAG, NULL, struct ps_options, quiet, "only names"),
	OPTION(0, "json", FLAG, NULL, struct ps_options, json, "one JSON array"),
	OPTION_END,
};

/* Room for a host and a token. */
#define STATUS_SIZE 320

/* Prints or collects one container. */
typedef void (*show_fn)(const struct container *c, const struct container_state *st, void *to);

static void show_name(const struct container *c, const struct container_state *st, void *to)
{
	(void)st;
	(void)to;
	puts(c->name);
}

/* Who would know, and of what. */
static void doubt_text(const struct container *c, char *buf, size_t size)
{
	struct handover h;
	struct error ignored;

	if (handover_read(c, &h, &ignored) == 0)
		(void)snprintf(buf, size, "in-doubt (%s, %s)", h.peer, h.token);
}

static json_t *doubt_json(const struct container *c)
{
	struct handover h;
	struct error ignored;

	if (handover_read(c, &h, &ignored) < 0)
		return json_null();
	return json_pack("{s:s,s:s,s:s,s:s,s:I}", "peer", h.peer, "node", h.node, "node_id", h.node_id, "token",
			 h.token, "decided_us", (json_int_t)h.decided_us);
}

static const char *status_text(const struct container *c, const struct container_state *st, char buf[STATUS_SIZE])
{
	(void)snprintf(buf, STATUS_SIZE, "%s", container_status_name(st->status));
	if (st->status == CONTAINER_IN_DOUBT)
		doubt_text(c, buf, STATUS_SIZE);
	if (st->status == CONTAINER_RUNNING && st->health.status != HEALTH_NONE)
		(void)snprintf(buf, STATUS_SIZE, "running (%s)", health_name(st->health.status));
	if (st->status == CONTAINER_RESTARTING)
		(void)snprintf(buf, STATUS_SIZE, "restarting (%d)", st->exit_code);
	if (st->status == CONTAINER_EXITED && st->exit_code >= 0)
		(void)snprintf(buf, STATUS_SIZE, "exited (%d%s)", st->exit_code,
			       container_state_is_oom(st) ? ", out of memory" : "");
	return buf;
}

static void show_row(const struct container *c, const struct container_state *st, void *to)
{
	char status[STATUS_SIZE], address[NETWORK_CIDR_MAX], pid[16], age[UNITS_TEXT_SIZE], started[64] = "-";
	const struct spec *s = c->spec;

	(void)snprintf(address, sizeof(address), "%.*s", (int)strcspn(s->endpoint.address, "/"),
		       s->endpoint.address);
	(void)snprintf(pid, sizeof(pid), "%d", (int)st->pid);
	if (st->started_us)
		(void)snprintf(started, sizeof(started), "%s ago",
			       units_format_duration(clock_real_us() - st->started_us, age));
	table_add(to, (const char *const[]){ c->name, s->image, status_text(c, st, status),
					     *address ? address : "-", st->pid ? pid : "-", started });
}

static void add_json(const struct container *c, const struct container_state *st, void *to)
{
	(void)json_array_append_new(to, json_pack("{s:s,s:s,s:s,s:s,s:i,s:i,s:I,s:I,s:i,s:i,s:i,s:s,s:s,s:o}",
		"name", c->name, "image", c->spec->image, "status", container_status_name(st->status),
		"address", c->spec->endpoint.address, "pid", (int)st->pid, "exit_code", st->exit_code,
		"started_us", (json_int_t)st->started_us, "finished_us", (json_int_t)st->finished_us,
		"migrations", (int)st->migrations, "oom_kills", (int)st->oom_kills,
		"restarts", (int)st->restarts, "health", health_name(st->health.status), "reason", st->reason,
		"doubt", doubt_json(c)));
}

/* Goes on after a container that cannot be read; one that has just been
 * removed is no error. */
static int for_all(const struct node *node, bool all, show_fn show, void *to)
{
	char **names = NULL;
	int code = EXIT_OK;
	struct error err;
	size_t n = 0;

	if (container_list(node, &names, &n, &err) < 0)
		return command_fail(&err, EXIT_FAILED);
	for (size_t i = 0; i < n; i++) {
		CLEANUP(container_freep) struct container *c = NULL;
		struct container_state st;
		int r = container_open(node, names[i], &c, &err);

		if (r == 0)
			r = container_state(c, &st, &err);
		if (r == 0 && (st.abandoned || monitor_is_missing(c, &st)) && container_lock(c, false, &err) == 0)
			r = container_state(c, &st, &err);
		if (r < 0 && r != -ENOENT)
			code = command_fail(&err, EXIT_FAILED);
		else if (r == 0 && (all || container_status_is_active(st.status)))
			show(c, &st, to);
		free(names[i]);
	}
	free(names);
	return code;
}

static int ps_json(const struct node *node, bool all)
{
	json_t *list = json_array();
	int code = for_all(node, all, add_json, list);

	if (json_dumpf(list, stdout, JSON_INDENT(2)) < 0 || puts("") < 0)
		code = EXIT_FAILED;
	json_decref(list);
	return code;
}

static int ps_table(const struct node *node, bool all)
{
	static const char *const headings[] = { "NAME", "IMAGE", "STATUS", "ADDRESS", "PID", "STARTED", NULL };
	CLEANUP(table_freep) struct table *t = table_new(headings);
	int code = t ? for_all(node, all, show_row, t) : EXIT_FAILED;

	return t && table_print(t) == 0 ? code : EXIT_FAILED;
}

static int ps_run(const struct invocation *inv)
{
	const struct ps_options *o = inv->options;

	if (o->json)
		return ps_json(inv->node, o->all);
	return o->quiet ? for_all(inv->node, o->all, show_name, NULL) : ps_table(inv->node, o->all);
}

const struct command command_ps = {
	.name = "ps", .usage = "", .summary = "list containers", .options = rows,
	.notes = "STATUS is created, running, paused, migrating, in-doubt, incoming, restarting or\n"
		 "exited; running with the result of health checks. In doubt\n"
		 "is a container whose migration is decided and not confirmed: with the target that\n"
		 "knows, and the migration's token.\n",
	.options_size = sizeof(struct ps_options), .run = ps_run,
};
