#include <signal.h>

#include "tools/commands.h"
#include "tools/end.h"

struct stop_options {
	uint64_t timeout_us;
};

static const struct option_row rows[] = {
	OPTION('t', "time", DURATION, "TIME", struct stop_options, timeout_us,
	       "how long it may take to end by itself [10s]"),
	OPTION_END,
};

static int stop_begin(struct container *c, const void *options, void *ending, struct error *err)
{
	const struct stop_options *o = options;
	struct container_state st;

	if (container_state(c, &st, err) < 0 ||
	    (st.status != CONTAINER_RESTARTING && end_check(c, &st, err) < 0))
		return -err->code;
	return end_begin(c, &st, o->timeout_us ? SIGTERM : 0, o->timeout_us, ending, err);
}

static int stop_finish(struct container *c, const void *options, void *ending, struct error *err)
{
	(void)options;
	return end_wait(c, ending, err);
}

static int stop_run(const struct invocation *inv)
{
	static const struct command_steps steps = { sizeof(struct ending), stop_begin, stop_finish };

	return command_each_at_once(inv, &steps);
}

const struct command command_stop = {
	.name = "stop", .usage = "NAME...", .summary = "end containers: SIGTERM, after a while SIGKILL",
	.notes = "Their restart policies leave them alone then. Several end together: all are asked, and\n"
		 "then waited for.\n",
	.options = rows, .options_size = sizeof(struct stop_options),
	.defaults = &(const struct stop_options){ .timeout_us = 10000000 },
	.min_args = 1, .max_args = ARGS_MANY, .run = stop_run,
};
