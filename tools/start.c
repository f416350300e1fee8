#include "engine/base/cleanup.h"
#include "migrate/handover.h"
#include "migrate/incoming.h"
#include "tools/commands.h"
#include "tools/launch.h"

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

static int start_run(const struct invocation *inv)
{
	return command_each(inv, true, start_one);
}

const struct command command_start = {
	.name = "start", .usage = "NAME...", .summary = "start containers again that have exited",
	.notes = "They keep their files, address and log; 'godwit attach' shows what they say.\n",
	.min_args = 1, .max_args = ARGS_MANY, .enters_container = true, .run = start_run,
};
