#include "tools/command.h"

static int do_one(const struct invocation *inv, const char *name, bool lock, command_each_fn fn,
		  struct error *err)
{
	CLEANUP(container_freep) struct container *c = NULL;

	if (container_open(inv->node, name, &c, err) < 0 || (lock && container_lock(c, false, err) < 0))
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
