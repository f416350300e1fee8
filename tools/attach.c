#include <stdio.h>

#include "engine/base/cleanup.h"
#include "engine/monitor/monitor.h"
#include "tools/commands.h"
#include "tools/end.h"
#include "tools/session.h"

static int attach(const struct node *node, const char *name, int *ret_code, struct error *err)
{
	CLEANUP(container_freep) struct container *c = NULL;
	CLEANUP(fd_closep) int control = -EBADF;
	struct container_state st;
	struct monitor_message m;
	struct session s;

	if (container_open(node, name, &c, err) < 0)
		return -err->code;
	end_mend(c);
	if (end_check(c, &st, err) < 0 ||
	    monitor_connect(c, &control, err) < 0 ||
	    monitor_call(control, MONITOR_ATTACH, -EBADF, &m, err) < 0)
		return -err->code;
	s = (struct session){ .control = control, .pid = st.pid, .input = c->spec->stdin_open,
			      .terminal = c->spec->terminal && isatty(STDIN_FILENO) };
	return session_run(&s, ret_code, err);
}

static int attach_run(const struct invocation *inv)
{
	struct error err;
	int code = 0;
	int r = attach(inv->node, inv->argv[0], &code, &err);

	if (r < 0)
		return command_fail(&err, EXIT_FAILED);
	return r > 0 ? EXIT_OK : code;
}

const struct command command_attach = {
	.name = "attach", .usage = "NAME", .summary = "connect to the output and input of a container",
	.notes = "Ends with the exit code of the container. Signals are passed on; ctrl-p ctrl-q on\n"
		 "a terminal leaves it running.\n",
	.min_args = 1, .max_args = 1, .run = attach_run,
};
