#include <string.h>

#include "engine/base/cleanup.h"
#include "engine/base/units.h"
#include "tools/commands.h"

#define NOT_GIVEN UINT32_MAX		/* 4 GiB less a byte is no size that people give */

struct update_options {
	uint64_t memory_bytes;
	uint32_t cpu_millis, pids;
	const char *restart;
};

static const struct option_row rows[] = {
	OPTION('m', "memory", SIZE, "SIZE", struct update_options, memory_bytes, "memory limit; 0: none"),
	OPTION(0, "cpus", CPUS, "N", struct update_options, cpu_millis, "processors it may use"),
	OPTION(0, "pids-limit", COUNT, "N", struct update_options, pids, "processes it may have; 0: no limit"),
	OPTION(0, "restart", TEXT, "POLICY", struct update_options, restart,
	       "no, on-failure[:N], always or unless-stopped"),
	OPTION_END,
};

static struct cgroup_limits changed(const struct cgroup_limits *old, const struct update_options *o)
{
	return (struct cgroup_limits){
		.memory_bytes = o->memory_bytes == NOT_GIVEN ? old->memory_bytes : o->memory_bytes,
		.cpu_millis = o->cpu_millis == NOT_GIVEN ? old->cpu_millis : o->cpu_millis,
		.pids = o->pids == NOT_GIVEN ? old->pids : o->pids,
	};
}

/* The kernel would make room by killing. */
static int check_room(const struct container *c, const struct cgroup *cg, const struct cgroup_limits *l,
		      struct error *err)
{
	char now[UNITS_TEXT_SIZE], wanted[UNITS_TEXT_SIZE];
	struct cgroup_usage u;

	if (cgroup_get_usage(cg, &u, err) < 0)
		return -err->code;
	return !l->memory_bytes || u.working_bytes <= l->memory_bytes ? 0 :
		error_set(err, EBUSY, "container '%s' uses %s now, more than %s; stop it first, or allow it more",
			  c->name, units_format_size(u.working_bytes, now), units_format_size(l->memory_bytes, wanted));
}

/* Those in force first: what the kernel refuses is not written down. */
static int update_one(struct container *c, const void *options, struct error *err)
{
	const struct update_options *o = options;
	const struct cgroup_limits old = c->spec->limits;
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	struct container_state st;
	struct error ignored;
	bool live;

	if (container_state(c, &st, err) < 0)
		return -err->code;
	live = container_status_is_live(st.status);
	if (st.status != CONTAINER_RUNNING && st.status != CONTAINER_PAUSED && st.status != CONTAINER_EXITED)
		return error_set(err, EBUSY, "container '%s': it is %s", c->name, container_status_name(st.status));
	if (o->restart && restart_parse(o->restart, &c->spec->restart, err) < 0)
		return error_wrap(err, "--restart");
	c->spec->limits = changed(&old, options);
	if (live && (container_cgroup(c, false, &cg, err) < 0 || check_room(c, cg, &c->spec->limits, err) < 0 ||
		     cgroup_set_limits(cg, &c->spec->limits, err) < 0))
		return -err->code;
	if (container_rewrite(c, err) == 0)
		return 0;
	if (live)
		(void)cgroup_set_limits(cg, &old, &ignored);
	return -err->code;
}

static int update_run(const struct invocation *inv)
{
	return command_each(inv, true, update_one);
}

const struct command command_update = {
	.name = "update", .usage = "NAME...",
	.summary = "change limits and restart policies, also while containers run",
	.notes = "What is not given stays. The new limits move with the container. A memory limit below\n"
		 "what a running container uses is refused.\n",
	.options = rows, .options_size = sizeof(struct update_options),
	.defaults = &(const struct update_options){ .memory_bytes = NOT_GIVEN, .cpu_millis = NOT_GIVEN,
						    .pids = NOT_GIVEN },
	.min_args = 1, .max_args = ARGS_MANY, .run = update_run,
};
