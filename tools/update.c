#include <string.h>

#include "engine/base/cleanup.h"
#include "engine/base/units.h"
#include "tools/commands.h"
#include "tools/disk_options.h"

#define NOT_GIVEN UINT32_MAX		/* 4 GiB less a byte is no size that people give */

struct update_options {
	uint64_t memory_bytes;
	uint32_t cpu_millis, pids;
	struct disk_options disks;
	const char *restart;
};

static const struct option_row rows[] = {
	OPTION('m', "memory", SIZE, "SIZE", struct update_options, memory_bytes, "memory limit; 0: none"),
	OPTION(0, "cpus", CPUS, "N", struct update_options, cpu_millis, "processors it may use"),
	OPTION(0, "pids-limit", COUNT, "N", struct update_options, pids, "processes it may have; 0: no limit"),
	OPTION(0, "device-read-bps", LIST, "PATH:RATE", struct update_options, disks.rates[DISK_READ_BPS],
	       "bytes a second from that disk, like /dev/sda:10m; 0: no limit"),
	OPTION(0, "device-write-bps", LIST, "PATH:RATE", struct update_options, disks.rates[DISK_WRITE_BPS],
	       "bytes a second to it"),
	OPTION(0, "device-read-iops", LIST, "PATH:RATE", struct update_options, disks.rates[DISK_READ_IOPS],
	       "reads a second from it"),
	OPTION(0, "device-write-iops", LIST, "PATH:RATE", struct update_options, disks.rates[DISK_WRITE_IOPS],
	       "writes a second to it"),
	OPTION(0, "blkio-weight", COUNT, "N", struct update_options, disks.weight, "its share of disk I/O, 10 to 1000"),
	OPTION(0, "restart", TEXT, "POLICY", struct update_options, restart,
	       "no, on-failure[:N], always or unless-stopped"),
	OPTION_END,
};

static int change(struct cgroup_limits *l, const struct update_options *o, struct error *err)
{
	l->memory_bytes = o->memory_bytes == NOT_GIVEN ? l->memory_bytes : o->memory_bytes;
	l->cpu_millis = o->cpu_millis == NOT_GIVEN ? l->cpu_millis : o->cpu_millis;
	l->pids = o->pids == NOT_GIVEN ? l->pids : o->pids;
	return disk_options_take(&o->disks, &l->disks, err);
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

/* A weight that was not set before stays: there is no word for none. */
static void set_back(const struct cgroup *cg, struct cgroup_limits old, const struct cgroup_limits *now)
{
	struct error ignored;

	disk_limits_lift(&old.disks, &now->disks);
	(void)cgroup_set_limits(cg, &old, &ignored);
}

/* Those in force first: what the kernel refuses is not written down. */
static int update_one(struct container *c, const void *options, struct error *err)
{
	const struct update_options *o = options;
	const struct cgroup_limits old = c->spec->limits;
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	struct cgroup_limits now = old;
	struct container_state st;
	bool live;

	if (container_state(c, &st, err) < 0)
		return -err->code;
	live = container_status_is_live(st.status);
	if (st.status != CONTAINER_RUNNING && st.status != CONTAINER_PAUSED && st.status != CONTAINER_EXITED)
		return error_set(err, EBUSY, "container '%s': it is %s", c->name, container_status_name(st.status));
	if (o->restart && restart_parse(o->restart, &c->spec->restart, err) < 0)
		return error_wrap(err, "--restart");
	if (change(&now, o, err) < 0 ||
	    (live && (container_cgroup(c, false, &cg, err) < 0 || check_room(c, cg, &now, err) < 0)))
		return -err->code;
	c->spec->limits = now;
	disk_limits_settle(&c->spec->limits.disks);
	if ((!live || cgroup_set_limits(cg, &now, err) == 0) && container_rewrite(c, err) == 0)
		return 0;
	if (live)
		set_back(cg, old, &now);
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
