#include <string.h>

#include "engine/base/fault.h"
#include "migrate/settle.h"
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

static void tell(const char *name, const char *node, enum settled how)
{
	switch (how) {
	case SETTLED_GONE:
		printf("container '%s' runs on %s; the original is removed\n", name, node);
		break;
	case SETTLED_HERE:
		printf("container '%s' does not run on %s; it goes on here\n", name, node);
		break;
	case SETTLED_LOST_THERE:
		printf("container '%s' was lost when %s crashed; it goes on here, from the moment of its move\n", name,
		       node);
		break;
	}
}

/* What it risks was said in the help; here what was done. */
static int by_hand(struct container *c, const struct handover *h, bool gone, struct error *err)
{
	if (settle_by_hand(c, gone, err) < 0)
		return -err->code;
	if (gone)
		printf("container '%s' is removed here, unasked: if it does not run on %s, it is lost\n", c->name,
		       h->node);
	else
		printf("container '%s' goes on here, unasked: if %s runs it, there are two now\n", c->name, h->node);
	return 0;
}

static int ask(struct container *c, const struct handover *h, struct error *err)
{
	enum settled how;

	if (settle_container(c, &how, err) < 0)
		return -err->code;
	tell(c->name, h->node, how);
	return 0;
}

static int resolve_run(const struct invocation *inv)
{
	const struct resolve_options *o = inv->options;
	CLEANUP(container_freep) struct container *c = NULL;
	struct handover h;
	struct error err;
	int r;

	fault_role("resolve");
	if (o->resume_here && o->gone)
		return command_usage_error(inv->command, "--resume-here and --gone exclude each other");
	if (container_open(inv->node, inv->argv[0], &c, &err) < 0 || container_lock(c, true, &err) < 0)
		return command_fail(&err, EXIT_FAILED);
	r = handover_read(c, &h, &err);
	if (r == -ENOENT)
		(void)error_set(&err, ENOENT, "container '%s' is not in doubt", c->name);
	else if (r == 0)
		r = o->gone || o->resume_here ? by_hand(c, &h, o->gone, &err) : ask(c, &h, &err);
	return r < 0 ? command_fail(&err, EXIT_FAILED) : EXIT_OK;
}

const struct command command_resolve = {
	.name = "resolve", .usage = "NAME", .summary = "settle a migration that is in doubt",
	.notes = "A migration is in doubt when the target fell silent after the decision. The container\n"
		 "is frozen here then, and the target may run it. Without options the target is asked,\n"
		 "which 'godwit serve' does by itself. The options settle it without asking:\n"
		 "--resume-here makes two running copies if the target runs it, --gone leaves none if\n"
		 "it does not.\n",
	.options = rows, .options_size = sizeof(struct resolve_options),
	.min_args = 1, .max_args = 1, .run = resolve_run,
};
