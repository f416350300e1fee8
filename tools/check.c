#include "migrate/source.h"
#include "tools/check.h"
#include "tools/commands.h"
#include "tools/progress.h"

struct check_options {
	bool json;
};

static const struct option_row rows[] = {
	OPTION(0, "json", FLAG, NULL, struct check_options, json, "print what was found as JSON"),
	OPTION_END,
};

int check_container(const struct node *node, const char *name, const char *host, bool json,
		    const volatile sig_atomic_t *cancelled)
{
	const struct source_options options = { .host = host, .cancelled = cancelled };
	CLEANUP(container_freep) struct container *c = NULL;
	struct source_report report = { 0 };
	struct error err;
	int r;

	if (container_open(node, name, &c, &err) < 0)
		return command_fail(&err, EXIT_FAILED);
	r = source_check(c, &options, &report, &err);
	if (r < 0)
		(void)error_wrap(&err, "check '%s'", c->name);
	progress_print_check(c, &report, json, r < 0 ? &err : NULL);
	source_report_free(&report);
	return r < 0 ? command_fail(&err, EXIT_FAILED) : r > 0 ? EXIT_FAILED : EXIT_OK;
}

static int check_run(const struct invocation *inv)
{
	const struct check_options *o = inv->options;

	return check_container(inv->node, inv->argv[0], NULL, o->json, NULL);
}

const struct command command_check = {
	.name = "check", .usage = "NAME", .summary = "tell what of a container keeps it from moving",
	.notes = "Tells what can be found here: what its programs have open, sessions of exec, CRIU.\n"
		 "'godwit migrate --check NAME HOST' asks the other node as well.\n\n"
		 "Exit codes: 0 nothing was found; 1 something was, or it could not be looked at.\n",
	.options = rows, .options_size = sizeof(struct check_options),
	.min_args = 1, .max_args = 1, .run = check_run,
};
