#include "engine/base/cleanup.h"
#include "tools/commands.h"
#include "tools/end.h"

#define FREEZE_TIMEOUT_US 10000000

static int pause_one(struct container *c, const void *options, struct error *err)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	struct container_state st;

	(void)options;
	if (end_check(c, &st, err) < 0)
		return -err->code;
	if (st.status == CONTAINER_PAUSED)
		return error_set(err, EALREADY, "container '%s' is paused already", c->name);
	if (container_cgroup(c, false, &cg, err) < 0 || cgroup_freeze_to_dump(cg, FREEZE_TIMEOUT_US, err) < 0)
		return error_wrap(err, "container '%s'", c->name);
	return 0;
}

static int unpause_one(struct container *c, const void *options, struct error *err)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	struct container_state st;

	(void)options;
	if (end_check(c, &st, err) < 0)
		return -err->code;
	if (st.status != CONTAINER_PAUSED)
		return error_set(err, EINVAL, "container '%s' is not paused", c->name);
	if (container_cgroup(c, false, &cg, err) < 0 || cgroup_thaw(cg, err) < 0)
		return error_wrap(err, "container '%s'", c->name);
	/* A migration that nobody ended has closed its gate, too. */
	return st.monitor_alive ? 0 : container_reconnect(c, st.pid, err);
}

static int pause_run(const struct invocation *inv)
{
	return command_each(inv, true, pause_one);
}

static int unpause_run(const struct invocation *inv)
{
	return command_each(inv, true, unpause_one);
}

const struct command command_pause = {
	.name = "pause", .usage = "NAME...", .summary = "freeze containers where they are",
	.min_args = 1, .max_args = ARGS_MANY, .run = pause_run,
};

const struct command command_unpause = {
	.name = "unpause", .usage = "NAME...", .summary = "let paused containers go on",
	.min_args = 1, .max_args = ARGS_MANY, .run = unpause_run,
};
