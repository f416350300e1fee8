#include "migrate/checkpoint/checkpoint.h"
#include "tools/commands.h"

struct restore_arguments {
	const char *name;
	bool verify, no_wait;
};

static const struct option_row rows[] = {
	OPTION(0, "name", TEXT, "NAME", struct restore_arguments, name, "another name than it had"),
	OPTION(0, "verify", FLAG, NULL, struct restore_arguments, verify,
	       "compare all memory with its checksums before the container runs"),
	OPTION(0, "no-wait", FLAG, NULL, struct restore_arguments, no_wait,
	       "don't wait until all of its memory is there"),
	OPTION_END,
};

static int restore_run(const struct invocation *inv)
{
	const struct restore_arguments *a = inv->options;
	const struct checkpoint_restore_options o = { .dir = inv->argv[0], .name = a->name, .verify = a->verify };
	struct checkpoint_restored r;
	struct error err;

	if (checkpoint_restore(inv->node, &o, &r, &err) < 0)
		return command_fail(&err, EXIT_FAILED);
	printf("%s\n", r.name);
	(void)fflush(stdout);
	if (!a->no_wait && checkpoint_restore_wait(inv->node, &r, &err) < 0) {
		(void)error_wrap(&err, "restore %s", o.dir);
		return command_fail(&err, EXIT_FAILED);
	}
	return EXIT_OK;
}

const struct command command_restore = {
	.name = "restore", .usage = "DIR", .summary = "let a checkpointed container run again",
	.notes = "Its name and address must be free; the checkpoint stays as it is. The name is printed\n"
		 "when the container runs; its memory is read while it does, what it touches first, and\n"
		 "every page is compared with its checksum before the container gets it. The command\n"
		 "waits for the last one. When one is damaged, the container is killed and the exit code 1.\n",
	.options = rows, .options_size = sizeof(struct restore_arguments),
	.min_args = 1, .max_args = 1, .enters_container = true, .run = restore_run,
};
