#include "engine/base/cleanup.h"
#include "migrate/handover.h"
#include "migrate/incoming.h"
#include "tools/commands.h"
#include "tools/end.h"

struct rm_options {
	bool force;
};

static const struct option_row rows[] = {
	OPTION('f', "force", FLAG, NULL, struct rm_options, force, "kill it first when it runs"),
	OPTION_END,
};

static int rm_begin(struct container *c, const void *options, void *ending, struct error *err)
{
	const struct rm_options *o = options;
	struct container_state st;

	*(struct ending *)ending = (struct ending){ .monitor_fd = -EBADF };
	if (container_state(c, &st, err) < 0)
		return -err->code;
	if (st.status == CONTAINER_IN_DOUBT || (st.status == CONTAINER_INCOMING && st.monitor_alive))
		return error_set(err, EBUSY, "container '%s': it is %s; removing it could lose it", c->name,
				 container_status_name(st.status));
	if (handover_check_none(c, err) < 0)
		return -err->code;
	if (container_status_is_active(st.status) && !o->force)
		return error_set(err, EBUSY, "container '%s' is %s; stop it first, or use -f", c->name,
				 container_status_name(st.status));
	/* One that is lost here may go as well. */
	if (st.status != CONTAINER_INCOMING && incoming_finish(c, err) < 0 && err->code != ESTALE)
		return -err->code;
	return container_status_is_active(st.status) ? end_begin(c, &st, 0, 0, ending, err) : 0;
}

static int rm_finish(struct container *c, const void *options, void *ending, struct error *err)
{
	(void)options;
	if (end_wait(c, ending, err) < 0)
		return -err->code;
	return container_clean(c, false, err);
}

static int rm_run(const struct invocation *inv)
{
	static const struct command_steps steps = { sizeof(struct ending), rm_begin, rm_finish };

	return command_each_at_once(inv, &steps);
}

const struct command command_rm = {
	.name = "rm", .usage = "NAME...", .summary = "remove containers and what they wrote",
	.options = rows, .options_size = sizeof(struct rm_options),
	.min_args = 1, .max_args = ARGS_MANY, .run = rm_run,
};
