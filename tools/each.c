#include <string.h>

#include "tools/command.h"

#define AT_ONCE 64	/* few descriptors, and nobody's lock is held for long */

static int open_one(const struct invocation *inv, const char *name, bool lock, struct container **ret,
		    struct error *err)
{
	CLEANUP(container_freep) struct container *c = NULL;
	struct container_state st;

	if (container_open(inv->node, name, &c, err) < 0 || container_state(c, &st, err) < 0)
		return -err->code;
	/* A monitor that starts it again has the lock for a moment. */
	if (lock && container_lock(c, st.status == CONTAINER_RESTARTING, err) < 0)
		return -err->code;
	*ret = TAKE_PTR(c);
	return 0;
}

static int do_one(const struct invocation *inv, const char *name, bool lock, command_each_fn fn,
		  struct error *err)
{
	CLEANUP(container_freep) struct container *c = NULL;

	return open_one(inv, name, lock, &c, err) < 0 ? -err->code : fn(c, inv->options, err);
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

static int begin_one(const struct invocation *inv, const char *name, const struct command_steps *steps,
		     void *item, struct container **ret, struct error *err)
{
	CLEANUP(container_freep) struct container *c = NULL;

	if (open_one(inv, name, true, &c, err) < 0 || steps->begin(c, inv->options, item, err) < 0)
		return -err->code;
	*ret = TAKE_PTR(c);
	return 0;
}

/* It would wait for its own lock. */
static bool was_named(const struct invocation *inv, int i)
{
	for (int k = 0; k < i; k++)
		if (!strcmp(inv->argv[k], inv->argv[i]))
			return true;
	return false;
}

/* Up to AT_ONCE of them. */
static int each_of(const struct invocation *inv, const struct command_steps *steps, int first, int n, char *items)
{
	struct container *begun[AT_ONCE] = { NULL };
	int code = EXIT_OK;
	struct error err;

	for (int i = 0; i < n; i++)
		if (!was_named(inv, first + i) &&
		    begin_one(inv, inv->argv[first + i], steps, items + (size_t)i * steps->item_size,
			      &begun[i], &err) < 0)
			code = command_fail(&err, EXIT_FAILED);
	for (int i = 0; i < n; i++) {
		if (begun[i] && steps->finish(begun[i], inv->options, items + (size_t)i * steps->item_size, &err) < 0)
			code = command_fail(&err, EXIT_FAILED);
		container_free(begun[i]);
	}
	return code;
}

int command_each_at_once(const struct invocation *inv, const struct command_steps *steps)
{
	CLEANUP(freep) char *items = calloc(AT_ONCE, steps->item_size);
	int code = EXIT_OK;

	if (!items)
		return command_fail(&(struct error){ .code = ENOMEM, .msg = "out of memory" }, EXIT_FAILED);
	for (int i = 0; i < inv->argc; i += AT_ONCE) {
		int n = inv->argc - i < AT_ONCE ? inv->argc - i : AT_ONCE;

		if (each_of(inv, steps, i, n, items) != EXIT_OK)
			code = EXIT_FAILED;
	}
	return code;
}
