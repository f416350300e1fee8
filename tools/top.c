#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/fd.h"
#include "engine/base/units.h"
#include "tools/commands.h"
#include "tools/end.h"
#include "tools/table.h"

#define PROC_MAX 65536

struct top_options {
	bool json;
};

static const struct option_row rows[] = {
	OPTION(0, "json", FLAG, NULL, struct top_options, json, "one JSON array"),
	OPTION_END,
};

struct task {
	pid_t pid, inside, parent;
	unsigned uid;
	char state;
	unsigned threads;
	uint64_t cpu_us, resident_bytes;
	char command[256];
};

/* *ret stays as it is when there is no such process any more. */
static size_t read_proc(pid_t pid, const char *file, char **ret)
{
	struct error ignored;
	size_t len = 0;
	char path[40];

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	(void)fd_read_file_at(-EBADF, path, PROC_MAX, ret, &len, &ignored);
	return len;
}

/* proc_pid_stat(5), counted from behind the name, which may hold anything. */
static bool read_stat(struct task *t)
{
	CLEANUP(freep) char *text = NULL;
	unsigned long long user, system;
	const char *behind;
	long resident;
	int parent;

	(void)read_proc(t->pid, "stat", &text);
	behind = text ? strrchr(text, ')') : NULL;
	if (!behind || sscanf(behind, ") %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu "
			      "%*d %*d %*d %*d %u %*d %*u %*u %ld",
			 &t->state, &parent, &user, &system, &t->threads, &resident) != 6)
		return false;
	t->parent = parent;
	t->cpu_us = (user + system) * 1000000 / (uint64_t)sysconf(_SC_CLK_TCK);
	t->resident_bytes = (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
	return true;
}

/* The last number of NSpid is the pid in the innermost namespace. */
static bool read_status(struct task *t)
{
	CLEANUP(freep) char *text = NULL;
	const char *uid;
	char *ids;

	(void)read_proc(t->pid, "status", &text);
	uid = text ? strstr(text, "\nUid:") : NULL;
	ids = text ? strstr(text, "\nNSpid:") : NULL;
	if (!uid || !ids || sscanf(uid, "\nUid: %u", &t->uid) != 1)
		return false;
	ids[1 + strcspn(ids + 1, "\n")] = '\0';
	t->inside = (pid_t)strtol(strrchr(ids, '\t') + 1, NULL, 10);
	return true;
}

/* For terminals and for JSON, which holds nothing but UTF-8. */
static void make_printable(char *text)
{
	json_t *utf8 = json_string(text);

	for (char *s = text; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f || (!utf8 && *s < 0))
			*s = '?';
	json_decref(utf8);
}

/* Its arguments; of one that has none, a zombie for instance, its name. */
static void read_command(struct task *t)
{
	CLEANUP(freep) char *text = NULL;
	CLEANUP(freep) char *name = NULL;
	size_t len = read_proc(t->pid, "cmdline", &text);

	(void)read_proc(t->pid, "comm", &name);
	for (size_t i = 0; text && i + 1 < len; i++)
		if (!text[i])
			text[i] = ' ';
	if (len)
		(void)snprintf(t->command, sizeof(t->command), "%s", text);
	else
		(void)snprintf(t->command, sizeof(t->command), "[%.*s]", name ? (int)strcspn(name, "\n") : 0,
			       name ? name : "");
	make_printable(t->command);
}

static void add_json(json_t *list, const struct task *t)
{
	(void)json_array_append_new(list, json_pack("{s:i,s:i,s:i,s:I,s:s#,s:I,s:I,s:I,s:s}",
		"pid", (int)t->pid, "inside", (int)t->inside, "parent", (int)t->parent, "uid", (json_int_t)t->uid,
		"state", &t->state, 1, "threads", (json_int_t)t->threads, "cpu_us", (json_int_t)t->cpu_us,
		"resident_bytes", (json_int_t)t->resident_bytes,
		"command", t->command));
}

static void add_row(struct table *table, const struct task *t)
{
	char pid[16], inside[16], uid[16], state[2] = { t->state }, threads[16], cpu[UNITS_TEXT_SIZE],
		resident[UNITS_TEXT_SIZE];

	(void)snprintf(pid, sizeof(pid), "%d", (int)t->pid);
	(void)snprintf(inside, sizeof(inside), "%d", (int)t->inside);
	(void)snprintf(uid, sizeof(uid), "%u", t->uid);
	(void)snprintf(threads, sizeof(threads), "%u", t->threads);
	table_add(table, (const char *const[]){ pid, inside, uid, state, threads,
						units_format_duration(t->cpu_us, cpu),
						units_format_size(t->resident_bytes, resident), t->command });
}

static int list_tasks(const struct node *node, const char *name, json_t *list, struct table *table,
		      struct error *err)
{
	CLEANUP(container_freep) struct container *c = NULL;
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	CLEANUP(freep) pid_t *pids = NULL;
	struct container_state st;
	size_t n = 0;

	if (container_open(node, name, &c, err) < 0 || end_check(c, &st, err) < 0 ||
	    container_cgroup(c, false, &cg, err) < 0 || cgroup_pids(cg, &pids, &n, err) < 0)
		return -err->code;
	for (size_t i = 0; i < n; i++) {
		struct task t = { .pid = pids[i] };

		if (!read_stat(&t) || !read_status(&t))
			continue;
		read_command(&t);
		if (list)
			add_json(list, &t);
		else
			add_row(table, &t);
	}
	return 0;
}

static int top_run(const struct invocation *inv)
{
	static const char *const headings[] = { "PID", "INSIDE", "UID", "STATE", "THREADS", "CPU", "RESIDENT",
						"COMMAND", NULL };
	const struct top_options *o = inv->options;
	CLEANUP(table_freep) struct table *table = table_new(headings);
	json_t *list = o->json ? json_array() : NULL;
	struct error err;
	int code = EXIT_OK;

	if (!table)
		return EXIT_FAILED;
	if (list_tasks(inv->node, inv->argv[0], list, table, &err) < 0)
		code = command_fail(&err, EXIT_FAILED);
	else if (list ? json_dumpf(list, stdout, JSON_INDENT(2)) < 0 || puts("") < 0 : table_print(table) < 0)
		code = EXIT_FAILED;
	json_decref(list);
	return code;
}

const struct command command_top = {
	.name = "top", .usage = "NAME", .summary = "list the processes of a container",
	.notes = "PID is this machine's number of a process, INSIDE the container's.\n",
	.options = rows, .options_size = sizeof(struct top_options),
	.min_args = 1, .max_args = 1, .run = top_run,
};
