#include <string.h>

#include "migrate/source.h"
#include "tools/commands.h"

struct resolve_options {
	bool resume_here, gone;
};

static const struct option_row rows[] = {
	OPTION(0, "resume-here", FLAG, NULL, struct resolve_options, resume_here,
	       "run it here, without asking: only if it is certain that the target never will"),
	OPTION(0, "gone", FLAG, NULL, struct resolve_options, gone,
	       "remove it here, without asking: only if it is certain that the target runs it"),
	OPTION_END,
};

static int resolve_run(const struct invocation *inv)
{
	const struct resolve_options *o = inv->options;
	CLEANUP(container_freep) struct container *c = NULL;
	struct handover h;
	struct error err;
	bool gone = o->gone;
	int r;

	if (o->resume_here && o->gone)
		return command_usage_error(inv->command, "--resume-here and --gone exclude each other");
	if (container_open(inv->node, inv->argv[0], &c, &err) < 0 || container_lock(c, false, &err) < 0)
		return command_fail(&err, EXIT_FAILED);
	r = handover_read(c, &h, &err);
	if (r == -ENOENT)
		(void)error_set(&err, ENOENT, "container '%s' is not in doubt", c->name);
	else if (r == 0)
		r = o->gone || o->resume_here ? source_settle_by_hand(c, gone, &err) :
						source_settle(c, &gone, &err);
	if (r < 0)
		return command_fail(&err, EXIT_FAILED);
	printf(gone ? "container '%s' runs on %s; the original is removed\n" :
		      "container '%s' does not run on %s; it goes on here\n", c->name, h.peer);
	return EXIT_OK;
}

const struct command command_resolve = {
	.name = "resolve", .usage = "NAME", .summary = "settle a migration that is in doubt",
	.notes = "A migration is in doubt when the target fell silent after the decision. Without\n"
		 "options the target is asked what became of it. The options settle it by hand; the\n"
		 "wrong one makes two running copies, or none.\n",
	.options = rows, .options_size = sizeof(struct resolve_options),
	.min_args = 1, .max_args = 1, .run = resolve_run,
};
