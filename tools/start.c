#include "engine/base/cleanup.h"
#include "migrate/handover.h"
#include "migrate/incoming.h"
#include "tools/commands.h"
#include "tools/launch.h"

struct start_options {
	bool boot;
};

static const struct option_row rows[] = {
	OPTION(0, "boot", FLAG, NULL, struct start_options, boot,
	       "those that do not run and whose restart policy wants it"),
	OPTION_END,
};

/* What a monitor that was killed, or a reboot, left; and a start time anew. */
static int make_ready(struct container *c, struct error *err)
{
	struct container_state st;

	if (container_state(c, &st, err) < 0)
		return -err->code;
	if (handover_check_none(c, err) < 0)
		return -err->code;
	if (st.status != CONTAINER_EXITED && st.status != CONTAINER_CREATED)
		return error_set(err, EBUSY, "container '%s' is %s already", c->name,
				 container_status_name(st.status));
	if (incoming_finish(c, err) < 0 || container_clean(c, true, err) < 0)
		return -err->code;
	st.started_us = 0;
	st.pid = st.monitor_pid = 0;
	st.stopped = false;
	st.restarts = 0;
	return container_state_write(c, &st, err);
}

static int start_one(struct container *c, const void *options, struct error *err)
{
	const struct launch how = { 0 };
	CLEANUP(fd_closep) int control = -EBADF;
	pid_t pid;

	(void)options;
	if (make_ready(c, err) < 0)
		return -err->code;
	return launch(c, &how, &control, &pid, err);
}

static bool is_for_boot(const struct node *node, const char *name)
{
	CLEANUP(container_freep) struct container *c = NULL;
	struct container_state st;
	struct error ignored;

	return container_open(node, name, &c, &ignored) == 0 && container_state(c, &st, &ignored) == 0 &&
	       st.status == CONTAINER_EXITED && restart_at_boot(&c->spec->restart, st.stopped);
}

static int start_for_boot(const struct invocation *inv)
{
	struct invocation some = *inv;
	char **names = NULL, **chosen = NULL;
	int code = EXIT_FAILED;
	struct error err;
	size_t n = 0;

	if (container_list(inv->node, &names, &n, &err) < 0)
		return command_fail(&err, EXIT_FAILED);
	chosen = calloc(n + 1, sizeof(*chosen));
	some.argc = 0;
	some.argv = chosen;
	for (size_t i = 0; chosen && i < n; i++)
		if (is_for_boot(inv->node, names[i]))
			chosen[some.argc++] = names[i];
	if (chosen)
		code = command_each(&some, true, start_one);
	for (size_t i = 0; i < n; i++)
		free(names[i]);
	free(names);
	free(chosen);
	return code;
}

static int start_run(const struct invocation *inv)
{
	const struct start_options *o = inv->options;

	if (o->boot != (inv->argc == 0))
		return command_usage_error(inv->command, o->boot ? "start --boot takes no names" :
					   "start needs NAME... or --boot");
	return o->boot ? start_for_boot(inv) : command_each(inv, true, start_one);
}

const struct command command_start = {
	.name = "start", .usage = "[NAME]...", .summary = "start containers again that have exited",
	.notes = "They keep their files, address and log; 'godwit attach' shows what they say.\n"
		 "--boot is for when the machine has booted: the policy always, or unless-stopped where\n"
		 "nobody has stopped it.\n",
	.options = rows, .options_size = sizeof(struct start_options),
	.max_args = ARGS_MANY, .enters_container = true, .run = start_run,
};
