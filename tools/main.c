#include <signal.h>
#include <stdarg.h>
#include <string.h>

#include "engine/base/fault.h"
#include "tools/commands.h"
#include "tools/oci.h"
#include "tools/protect.h"

/* In the order of the help. */
static const struct command *const commands[] = {
	&command_run,
	&command_start,
	&command_exec,
	&command_attach,
	&command_ps,
	&command_stats,
	&command_top,
	&command_inspect,
	&command_logs,
	&command_stop,
	&command_kill,
	&command_pause,
	&command_unpause,
	&command_update,
	&command_rm,
	&command_checkpoint,
	&command_restore,
	&command_serve,
	&command_migrate,
	&command_check,
	&command_doctor,
	&command_resolve,
	&command_image_import,
	&command_image_ls,
	&command_image_rm,
	&command_network_create,
	&command_network_ls,
	&command_network_inspect,
	&command_network_rm,
	&command_tls_init,
	&command_tls_issue,
	&command_tls_install,
	&command_tls_revoke,
	&command_tls_show,
	&command_oci,
	&command_fault_points,
	NULL,
};

int command_fail(const struct error *err, int code)
{
	fprintf(stderr, "godwit: %s\n", err->msg);
	return code;
}

int command_usage_error(const struct command *command, const char *fmt, ...)
{
	va_list ap;

	fputs("godwit: ", stderr);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "; see 'godwit help%s%s'\n", command ? " " : "", command ? command->name : "");
	return EXIT_USAGE;
}

static void print_overview(FILE *out)
{
	fputs("usage: godwit [--state DIR] [--insecure] COMMAND [ARGUMENT]...\n\n"
	      "Containers that move between machines while their clients stay connected.\n\n", out);
	for (size_t i = 0; commands[i]; i++)
		if (!commands[i]->hidden)
			fprintf(out, "  %-17s%s\n", commands[i]->name, commands[i]->summary);
	fputs("\n  --state DIR   where containers and images are kept\n"
	      "                [$GODWIT_STATE, else /var/lib/godwit]\n"
	      "  --insecure    talk with other nodes without TLS, as with GODWIT_INSECURE=1\n"
	      "  --version     print the version\n"
	      "  --help        print this; 'godwit help COMMAND' tells more\n", out);
}

void command_print_help(const struct command *c, FILE *out)
{
	fprintf(out, "usage: godwit %s%s%s%s\n\n%s\n", c->name, c->options ? " [OPTION]..." : "",
		*c->usage ? " " : "", c->usage, c->summary);
	if (c->options) {
		fputc('\n', out);
		option_print_help(c->options, out);
	}
	if (c->notes)
		fprintf(out, "\n%s", c->notes);
}

const struct command *command_find(const struct command *const *list, int argc, char **argv, int *ret_words)
{
	for (int words = argc < 2 ? argc : 2; words > 0; words--) {
		char name[64];

		(void)snprintf(name, sizeof(name), words == 2 ? "%s %s" : "%s", argv[0], argv[1]);
		for (size_t i = 0; list[i]; i++) {
			if (strcmp(list[i]->name, name) != 0)
				continue;
			*ret_words = words;
			return list[i];
		}
	}
	return NULL;
}

static int no_such_command(int argc, char **argv)
{
	char prefix[64];
	size_t n = (size_t)snprintf(prefix, sizeof(prefix), "%.60s ", argv[0]);

	for (size_t i = 0; commands[i]; i++)
		if (!strncmp(commands[i]->name, prefix, n))
			return command_usage_error(NULL, argc > 1 ? "no command '%s %s'" :
						   "'%s' needs another word", argv[0], argv[1]);
	return command_usage_error(NULL, "no command '%s'", argv[0]);
}

static int help_main(int argc, char **argv)
{
	const struct command *c;
	int words;

	if (argc == 0) {
		print_overview(stdout);
		return EXIT_OK;
	}
	c = command_find(commands, argc, argv, &words);
	if (!c || words != argc)
		return no_such_command(argc, argv);
	if (c == &command_oci)
		oci_print_overview(stdout);
	else
		command_print_help(c, stdout);
	return EXIT_OK;
}

static int call(const struct command *c, const char *state, void *options, int argc, char **argv)
{
	CLEANUP(node_freep) struct node *node = NULL;
	struct invocation inv = { .command = c, .options = options };
	struct error err;
	int first;

	if (c->defaults)
		memcpy(options, c->defaults, c->options_size);
	if (option_parse(c, argc, argv, options, &first, &err) < 0)
		return command_usage_error(c, "%s: %s", c->name, err.msg);
	inv.argc = argc - first;
	inv.argv = argv + first;
	if (inv.argc < c->min_args)
		return command_usage_error(c, "%s needs %s", c->name, c->usage);
	if (inv.argc > c->max_args)
		return command_usage_error(c, "%s: what is '%s'?", c->name, inv.argv[c->max_args]);
	if (!c->without_node && node_open(state, &node, &err) < 0)
		return command_fail(&err, c->command_follows ? EXIT_ENGINE : EXIT_FAILED);
	inv.node = node;
	return c->run(&inv);
}

bool command_wants_help(const struct command *c, int argc, char **argv)
{
	for (int i = 1; i < argc && !(c->command_follows && argv[i][0] != '-'); i++) {
		if (!strcmp(argv[i], "--"))
			return false;
		if (!strcmp(argv[i], "--help"))
			return true;
	}
	return false;
}

/* whole is argv of main. */
static int command_main(char *const *whole, const char *state, int argc, char **argv)
{
	const struct command *c;
	CLEANUP(freep) void *options = NULL;
	struct error err;
	int words = 0;

	if (!strcmp(argv[0], "oci"))
		return oci_main(whole, argc, argv);
	if (!strcmp(argv[0], "help"))
		return help_main(argc - 1, argv + 1);
	c = command_find(commands, argc, argv, &words);
	if (!c)
		return no_such_command(argc, argv);
	argc -= words - 1;
	argv += words - 1;
	if (command_wants_help(c, argc, argv)) {
		command_print_help(c, stdout);
		return EXIT_OK;
	}
	if (c->enters_container && protect_self(whole, &err) < 0)
		return command_fail(&err, EXIT_ENGINE);
	options = calloc(1, c->options_size + 1);
	if (!options)
		return command_fail(&(struct error){ .msg = "out of memory" }, EXIT_FAILED);
	return call(c, state, options, argc, argv);
}

/* True when the program has this name: a link to it may be called "migrate". */
static bool called_as(const char *argv0, const char *name)
{
	const char *slash = argv0 ? strrchr(argv0, '/') : NULL;

	return argv0 && !strcmp(slash ? slash + 1 : argv0, name);
}

int main(int argc, char **argv)
{
	const char *state = NULL;
	struct error err;
	int i = 1;

	(void)signal(SIGPIPE, SIG_IGN);
	if (fault_init(getenv("GODWIT_FAULT"), &err) < 0)
		return command_fail(&err, EXIT_USAGE);
	if (called_as(argv[0], "godwit-oci"))
		return oci_main(argv, argc, argv);
	if (called_as(argv[0], "migrate")) {
		argv[0] = (char[]){ "migrate" };	/* without the folder */
		return command_main(argv, NULL, argc, argv);
	}
	for (; i < argc && argv[i][0] == '-'; i++) {
		if (!strcmp(argv[i], "--state") && i + 1 < argc) {
			state = argv[++i];
		} else if (!strncmp(argv[i], "--state=", 8)) {
			state = argv[i] + 8;
		} else if (!strcmp(argv[i], "--insecure")) {
			(void)setenv("GODWIT_INSECURE", "1", 1);
		} else if (!strcmp(argv[i], "--version")) {
			return puts("godwit " GODWIT_VERSION) < 0;
		} else if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			return help_main(0, NULL);
		} else {
			return command_usage_error(NULL, !strcmp(argv[i], "--state") ?
						   "option '%s' needs a folder" : "unknown option '%s'", argv[i]);
		}
	}
	if (i == argc) {
		print_overview(stderr);
		return EXIT_USAGE;
	}
	return command_main(argv, state, argc - i, argv + i);
}
