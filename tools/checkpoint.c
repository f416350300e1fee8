#include "migrate/checkpoint.h"
#include "tools/commands.h"

struct checkpoint_options {
	bool leave_running;
};

static const struct option_row checkpoint_rows[] = {
	OPTION(0, "leave-running", FLAG, NULL, struct checkpoint_options, leave_running,
	       "let the container go on afterwards"),
	OPTION_END,
};

static int checkpoint_run(const struct invocation *inv)
{
	const struct checkpoint_options *o = inv->options;
	CLEANUP(container_freep) struct container *c = NULL;
	struct checkpoint_report r = { 0 };
	struct error err;

	if (container_open(inv->node, inv->argv[0], &c, &err) < 0 || container_lock(c, false, &err) < 0 ||
	    checkpoint_save(c, inv->argv[1], o->leave_running, &r, &err) < 0)
		return command_fail(&err, EXIT_FAILED);
	printf("container '%s' is in %s: %.1f MB, frozen for %.1f ms, %.1f ms in all\n", c->name, inv->argv[1],
	       (double)r.bytes / 1e6, (double)r.frozen_us / 1000, (double)r.total_us / 1000);
	return EXIT_OK;
}

const struct command command_checkpoint = {
	.name = "checkpoint", .usage = "NAME DIR", .summary = "save a running container into a directory",
	.notes = "DIR must not exist. Without --leave-running the container ends when all is on disk.\n",
	.options = checkpoint_rows, .options_size = sizeof(struct checkpoint_options),
	.min_args = 2, .max_args = 2, .run = checkpoint_run,
};

struct restore_options {
	const char *name;
};

static const struct option_row restore_rows[] = {
	OPTION(0, "name", TEXT, "NAME", struct restore_options, name, "another name than it had"),
	OPTION_END,
};

static int restore_run(const struct invocation *inv)
{
	const struct restore_options *o = inv->options;
	CLEANUP(freep) char *name = NULL;
	struct checkpoint_report r = { 0 };
	struct error err;

	if (checkpoint_restore(inv->node, inv->argv[0], o->name, &name, &r, &err) < 0)
		return command_fail(&err, EXIT_FAILED);
	printf("%s\n", name);
	return EXIT_OK;
}

const struct command command_restore = {
	.name = "restore", .usage = "DIR", .summary = "let a checkpointed container run again",
	.notes = "Its name and address must be free; the checkpoint stays as it is.\n",
	.options = restore_rows, .options_size = sizeof(struct restore_options),
	.min_args = 1, .max_args = 1, .run = restore_run,
};
