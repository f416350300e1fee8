#include <signal.h>

#include "tools/commands.h"
#include "tools/end.h"

struct kill_options {
	const char *signal;
};

static const struct option_row rows[] = {
	OPTION('s', "signal", TEXT, "SIGNAL", struct kill_options, signal, "name or number [KILL]"),
	OPTION_END,
};

static int kill_one(struct container *c, const void *options, struct error *err)
{
	const struct kill_options *o = options;
	struct container_state st;
	int sig;

	if (end_parse_signal(o->signal, &sig, err) < 0 || end_check(c, &st, err) < 0 ||
	    ((sig == SIGKILL || sig == SIGTERM) && end_announce(c, &st, err) < 0))
		return -err->code;
	return end_signal(c, &st, sig, err);
}

static int kill_run(const struct invocation *inv)
{
	const struct kill_options *o = inv->options;
	struct error err;
	int sig;

	if (end_parse_signal(o->signal, &sig, &err) < 0)
		return command_usage_error(inv->command, "kill: %s", err.msg);
	return command_each(inv, false, kill_one);
}

const struct command command_kill = {
	.name = "kill", .usage = "NAME...", .summary = "send a signal to the first process of containers",
	.options = rows, .options_size = sizeof(struct kill_options),
	.defaults = &(const struct kill_options){ .signal = "KILL" },
	.min_args = 1, .max_args = ARGS_MANY, .run = kill_run,
};
