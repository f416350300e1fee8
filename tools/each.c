#include "tools/command.h"

static int do_one(const struct invocation *inv, const char *name, bool lock, command_each_fn fn,
		  struct error *err)
{
	CLEANUP(container_freep) struct container *c = NULL;
	struct container_state st;

	if (container_open(inv->node, name, &c, err) < 0 || container_state(c, &st, err) < 0)
		return -err->code;
	/* A monitor that starts it again has the lock for a moment. */
	if (lock && container_lock(c, st.status == CONTAINER_RESTARTING, err) < 0)
		return -err->code;
	return fn(c, inv->options, err);
}

int command_each(const struct invocation *inv, bool lock, command_each_fn fn)
{
	int code = EXIT_OK;

	for (int i = 0; i < inv->argc; i++) {
		struct error err;

		if (do_one(inv, inv->argv[i], lock, fn, &err) < 0)
			code = command_fail(&err, EXIT_FAILED);
	}
	return code;
}
