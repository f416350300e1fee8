#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "engine/base/fd.h"
#include "tools/oci.h"

struct list_options {
	const char *format;
	bool quiet;
};

static const struct option_row list_rows[] = {
	OPTION('f', "format", TEXT, "FORMAT", struct list_options, format, "table or json [table]"),
	OPTION('q', "quiet", FLAG, NULL, struct list_options, quiet, "only the ids"),
	OPTION_END,
};

static const struct list_options list_defaults = { .format = "table" };

struct ps_options {
	const char *format;
};

static const struct option_row ps_rows[] = {
	OPTION('f', "format", TEXT, "FORMAT", struct ps_options, format, "table or json [table]"),
	OPTION_END,
};

static const struct ps_options ps_defaults = { .format = "table" };

static int state_run(const struct invocation *inv)
{
	CLEANUP(oci_container_freep) struct oci_container *c = oci_open(inv);

	return c ? oci_print(oci_container_state(c, oci_container_status(c), true)) : EXIT_FAILED;
}

static int check_format(const char *format, struct error *err)
{
	if (strcmp(format, "json") != 0 && strcmp(format, "table") != 0)
		return error_set(err, EINVAL, "--format: '%s' is neither table nor json", format);
	return 0;
}

static const char *owner_of(const struct oci_container *c)
{
	struct stat st;
	const struct passwd *pw = fstat(c->dir_fd, &st) == 0 ? getpwuid(st.st_uid) : NULL;

	return pw ? pw->pw_name : "";
}

static void print_row(const struct oci_container *c, json_t *all, bool quiet)
{
	enum oci_status status = oci_container_status(c);
	json_t *j;

	if (quiet) {
		(void)puts(c->id);
	} else if (!all) {
		printf("%-32s  %-8d  %-8s  %-40s  %-30s  %s\n", c->id, status == OCI_STOPPED ? 0 : (int)c->pid,
		       oci_status_name(status), c->bundle ? c->bundle : "", c->created, owner_of(c));
	} else {
		j = oci_container_state(c, status, true);
		(void)json_object_set_new(j, "owner", json_string(owner_of(c)));
		(void)json_array_append_new(all, j);
	}
}

static int list_run(const struct invocation *inv)
{
	const struct list_options *o = inv->options;
	json_t *all = NULL;
	char **names;
	struct error err;
	size_t n;

	if (check_format(o->format, &err) < 0 || oci_container_list(inv->oci->root, &names, &n, &err) < 0)
		return oci_fail(inv, &err);
	if (!o->quiet && !strcmp(o->format, "json"))
		all = json_array();
	else if (!o->quiet)
		printf("%-32s  %-8s  %-8s  %-40s  %-30s  %s\n", "ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER");
	for (size_t i = 0; i < n; i++) {
		CLEANUP(oci_container_freep) struct oci_container *c = NULL;

		if (oci_container_open(inv->oci->root, names[i], &c, &err) == 0)	/* else it went meanwhile */
			print_row(c, all, o->quiet);
	}
	fd_list_free(names, n);
	return all ? oci_print(all) : EXIT_OK;
}

/* What ps(1) prints of the pids that are the container's, with its own header. */
static int print_table(const struct invocation *inv, const pid_t *pids, size_t n, struct error *err)
{
	char list[65536] = "", full[] = "-f";
	char *argv[64] = { (char[]){ "ps" }, (char[]){ "-p" }, list };
	size_t len = 0;
	int status, argc = 3;
	pid_t child;

	for (size_t i = 0; i < n && len < sizeof(list) - 16; i++)
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%d", i ? "," : "", (int)pids[i]);
	if (inv->argc == 1)
		argv[argc++] = full;
	for (int i = 1; i < inv->argc && argc < 63; i++)
		argv[argc++] = inv->argv[i];
	child = fork();
	if (child == 0) {
		(void)execvp("ps", argv);
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return error_set(err, EIO, "ps failed: is procps installed?");
	return 0;
}

static json_t *pid_list(const pid_t *pids, size_t n)
{
	json_t *all = json_array();

	for (size_t i = 0; i < n; i++)
		(void)json_array_append_new(all, json_integer(pids[i]));
	return all;
}

static int ps_run(const struct invocation *inv)
{
	const struct ps_options *o = inv->options;
	CLEANUP(oci_container_freep) struct oci_container *c = oci_open(inv);
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	CLEANUP(freep) pid_t *pids = NULL;
	struct error err;
	size_t n = 0;

	if (!c)
		return EXIT_FAILED;
	if (check_format(o->format, &err) < 0 || oci_container_cgroup(c, &cg, &err) < 0 ||
	    cgroup_pids(cg, &pids, &n, &err) < 0)
		return oci_fail(inv, &err);
	if (!strcmp(o->format, "json"))
		return oci_print(pid_list(pids, n));
	return n > 0 && print_table(inv, pids, n, &err) < 0 ? oci_fail(inv, &err) : EXIT_OK;
}

const struct command command_oci_state = {
	.name = "oci state", .usage = "ID", .summary = "print a container's state as JSON",
	.min_args = 1, .max_args = 1, .run = state_run,
};

const struct command command_oci_list = {
	.name = "oci list", .usage = "", .summary = "list containers", .options = list_rows,
	.options_size = sizeof(struct list_options), .defaults = &list_defaults, .run = list_run,
};

const struct command command_oci_ps = {
	.name = "oci ps", .usage = "ID [PS-OPTION]...", .summary = "list the processes of a container",
	.options = ps_rows, .options_size = sizeof(struct ps_options), .defaults = &ps_defaults,
	.min_args = 1, .max_args = 32, .command_follows = true, .run = ps_run,
};
