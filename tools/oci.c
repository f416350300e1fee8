#include <string.h>
#include <time.h>

#include "engine/base/cleanup.h"
#include "tools/commands.h"
#include "tools/oci.h"
#include "tools/protect.h"

#define DEFAULT_ROOT "/run/godwit-oci"

static const struct command *const commands[] = {
	&command_oci_create, &command_oci_start,  &command_oci_run,    &command_oci_state,
	&command_oci_kill,   &command_oci_delete, &command_oci_exec,   &command_oci_ps,
	&command_oci_list,   &command_oci_pause,  &command_oci_resume, &command_oci_update,
	&command_oci_events, &command_oci_spec,   &command_oci_features, &command_oci_checkpoint,
	&command_oci_restore,
	NULL,
};

static const struct option_row rows[] = {
	OPTION(0, "root", TEXT, "DIR", struct oci_globals, root, "where its state is [" DEFAULT_ROOT "]"),
	OPTION(0, "log", TEXT, "FILE", struct oci_globals, log, "write errors there too"),
	OPTION(0, "log-format", TEXT, "FORMAT", struct oci_globals, log_format, "of that file: text or json [text]"),
	OPTION(0, "debug", FLAG, NULL, struct oci_globals, debug, "accepted; nothing more is told"),
	OPTION(0, "criu", TEXT, "FILE", struct oci_globals, criu, "a path to CRIU [the one found]"),
	OPTION(0, "systemd-cgroup", FLAG, NULL, struct oci_globals, systemd_cgroup,
	       "cgroupsPath is SLICE:PREFIX:NAME, for systemd"),
	OPTION_END,
};

static const struct oci_globals defaults = { .root = DEFAULT_ROOT, .log_format = "text" };

void oci_print_overview(FILE *out)
{
	fputs("usage: godwit oci [OPTION]... COMMAND [ARGUMENT]...\n\nan OCI runtime: bundles into containers\n\n",
	      out);
	option_print_help(rows, out);
	fputc('\n', out);
	for (size_t i = 0; commands[i]; i++)
		fprintf(out, "  %-14s%s\n", commands[i]->name + strlen("oci "), commands[i]->summary);
	fputs("\n'godwit oci COMMAND --help' tells more\n", out);
}

/* As logrus has it, which container engines expect in this file. */
static void write_log(const struct oci_globals *g, const char *message)
{
	CLEANUP(file_closep) FILE *f = g->log ? fopen(g->log, "ae") : NULL;
	time_t now = time(NULL);
	struct tm tm;
	char date[32];
	json_t *line;

	if (!f)
		return;
	(void)gmtime_r(&now, &tm);
	(void)strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &tm);
	line = strcmp(g->log_format, "json") == 0 ?
		json_pack("{s:s, s:s, s:s}", "level", "error", "msg", message, "time", date) : NULL;
	if (line)
		(void)json_dumpf(line, f, JSON_COMPACT);
	else
		fprintf(f, "time=\"%s\" level=error msg=\"%s\"", date, message);
	fputc('\n', f);
	json_decref(line);
}

int oci_fail(const struct invocation *inv, const struct error *err)
{
	char message[sizeof(err->msg) + 64];

	/* Engines look for these words to tell a program that is not there. */
	(void)snprintf(message, sizeof(message), "%s%s", err->msg,
		       err->code == PROCESS_NOT_FOUND ? ": executable file not found in $PATH" : "");
	fprintf(stderr, "godwit-oci: %s\n", message);
	write_log(inv->oci, message);
	return EXIT_FAILED;
}

struct oci_container *oci_open(const struct invocation *inv)
{
	struct oci_container *c = NULL;
	struct error err;

	if (oci_container_open(inv->oci->root, inv->argv[0], &c, &err) == 0)
		return c;
	(void)oci_fail(inv, &err);
	return NULL;
}

int oci_print(json_t *document)
{
	int r = document ? json_dumpf(document, stdout, JSON_INDENT(2)) : -1;

	json_decref(document);
	return r < 0 || putchar('\n') == EOF || fflush(stdout) ? EXIT_FAILED : EXIT_OK;
}

/* Options of ours end at the first word that is none: the command. */
static const struct command globals_of = {
	.name = "oci", .usage = "COMMAND [ARGUMENT]...", .options = rows, .options_size = sizeof(struct oci_globals),
	.command_follows = true,
};

static int call(const struct command *c, const struct oci_globals *g, int argc, char **argv)
{
	CLEANUP(freep) void *options = calloc(1, c->options_size + 1);
	struct invocation inv = { .command = c, .options = options, .oci = g };
	struct error err;
	int first;

	if (!options)
		return command_fail(&(struct error){ .msg = "out of memory" }, EXIT_FAILED);
	if (c->defaults)
		memcpy(options, c->defaults, c->options_size);
	if (option_parse(c, argc, argv, options, &first, &err) < 0) {
		(void)error_wrap(&err, "%s", c->name);
		return oci_fail(&inv, &err);
	}
	inv.argc = argc - first;
	inv.argv = argv + first;
	if (inv.argc < c->min_args || inv.argc > c->max_args) {
		(void)error_set(&err, EINVAL, "%s takes %s", c->name, *c->usage ? c->usage : "no argument");
		return oci_fail(&inv, &err);
	}
	return c->run(&inv);
}

static int check_globals(const struct oci_globals *g, struct error *err)
{
	if (strcmp(g->log_format, "json") != 0 && strcmp(g->log_format, "text") != 0)
		return error_set(err, EINVAL, "--log-format: '%s' is neither text nor json", g->log_format);
	if (g->criu && strchr(g->criu, '/') && setenv("GODWIT_CRIU", g->criu, 1) < 0)
		return error_set(err, errno, "--criu: %s", strerror(errno));
	return 0;
}

/* "create" is the row "oci create". */
static const struct command *find(const char *word)
{
	for (size_t i = 0; commands[i]; i++)
		if (!strcmp(commands[i]->name + strlen("oci "), word))
			return commands[i];
	return NULL;
}

static bool wants_version(int argc, char **argv)
{
	return argc > 1 && (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-v"));
}

int oci_main(char *const *whole, int argc, char **argv)
{
	struct oci_globals g = defaults;
	const struct invocation inv = { .command = &globals_of, .oci = &g };
	const struct command *c;
	struct error err;
	int first;

	if (wants_version(argc, argv))
		return printf("godwit-oci version " GODWIT_VERSION "\nspec: " OCI_VERSION "\n") < 0;
	if (command_wants_help(&globals_of, argc, argv)) {
		oci_print_overview(stdout);
		return EXIT_OK;
	}
	if (option_parse(&globals_of, argc, argv, &g, &first, &err) < 0 || check_globals(&g, &err) < 0)
		return oci_fail(&inv, &err);
	if (first == argc) {
		oci_print_overview(stderr);
		return EXIT_FAILED;
	}
	c = find(argv[first]);
	if (!c) {
		(void)error_set(&err, EINVAL, "no command '%s'; see 'godwit oci --help'", argv[first]);
		return oci_fail(&inv, &err);
	}
	if (command_wants_help(c, argc - first, argv + first)) {
		command_print_help(c, stdout);
		return EXIT_OK;
	}
	if (c->enters_container && protect_self(whole, &err) < 0)
		return oci_fail(&inv, &err);
	return call(c, &g, argc - first, argv + first);
}

static int oci_run(const struct invocation *inv)
{
	(void)inv;
	return EXIT_FAILED;		/* main.c goes to oci_main */
}

const struct command command_oci = {
	.name = "oci", .usage = "COMMAND [ARGUMENT]...", .summary = "be an OCI runtime as runc is: godwit-oci",
	.options = rows, .options_size = sizeof(struct oci_globals), .max_args = ARGS_MANY, .command_follows = true,
	.without_node = true, .run = oci_run,
};
