#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/fd.h"
#include "engine/oci/oci_resources.h"
#include "engine/oci/oci_scope.h"
#include "tools/oci.h"

struct update_options {
	const char *resources;
	const char *memory, *memory_reservation, *memory_swap;
	const char *cpu_period, *cpu_quota, *cpu_burst, *cpu_shares, *cpu_rt_period, *cpu_rt_runtime, *cpu_idle;
	const char *cpus, *mems, *pids, *weight;
};

#define ROW(letter, name, value, member, help) OPTION(letter, name, TEXT, value, struct update_options, member, help)

static const struct option_row rows[] = {
	ROW('r', "resources", "FILE", resources, "a resources object, - for standard input; instead of the others"),
	ROW(0, "memory", "BYTES", memory, "memory limit; -1: none"),
	ROW(0, "memory-reservation", "BYTES", memory_reservation, "memory that is kept for it"),
	ROW(0, "memory-swap", "BYTES", memory_swap, "memory and swap together; -1: no limit"),
	ROW(0, "cpu-period", "US", cpu_period, "period of the quota"),
	ROW(0, "cpu-quota", "US", cpu_quota, "processor time a period; -1: no limit"),
	ROW(0, "cpu-burst", "US", cpu_burst, "quota that may be saved up"),
	ROW(0, "cpu-share", "N", cpu_shares, "weight, 2 to 262144"),
	ROW(0, "cpu-rt-period", "US", cpu_rt_period, "period of realtime tasks"),
	ROW(0, "cpu-rt-runtime", "US", cpu_rt_runtime, "realtime a period"),
	ROW(0, "cpu-idle", "N", cpu_idle, "1: only when nobody else wants the processor"),
	ROW(0, "cpuset-cpus", "LIST", cpus, "processors it may use"),
	ROW(0, "cpuset-mems", "LIST", mems, "memory nodes it may use"),
	ROW(0, "pids-limit", "N", pids, "most processes; -1: no limit"),
	ROW(0, "blkio-weight", "N", weight, "weight of block I/O, 10 to 1000"),
	OPTION_END,
};

static int set_number(const char *text, const char *name, struct oci_number *ret, struct error *err)
{
	char *end;
	long long v;

	if (!text)
		return 0;
	errno = 0;
	v = strtoll(text, &end, 10);
	if (end == text || *end || errno)
		return error_set(err, EINVAL, "--%s: '%s' is no number", name, text);
	*ret = (struct oci_number){ true, v };
	return 0;
}

/* All of one update, so that what the document would hold is whole. */
struct parts {
	struct oci_resources resources;
	struct oci_memory memory;
	struct oci_cpu cpu;
	struct oci_pids pids;
	struct oci_block_io block_io;
};

static int fill(const struct update_options *o, struct parts *p, struct error *err)
{
	const struct { const char *text, *name; struct oci_number *to; } numbers[] = {
		{ o->memory, "memory", &p->memory.limit },
		{ o->memory_reservation, "memory-reservation", &p->memory.reservation },
		{ o->memory_swap, "memory-swap", &p->memory.swap },
		{ o->cpu_period, "cpu-period", &p->cpu.period },
		{ o->cpu_quota, "cpu-quota", &p->cpu.quota },
		{ o->cpu_burst, "cpu-burst", &p->cpu.burst },
		{ o->cpu_shares, "cpu-share", &p->cpu.shares },
		{ o->cpu_rt_period, "cpu-rt-period", &p->cpu.realtime_period },
		{ o->cpu_rt_runtime, "cpu-rt-runtime", &p->cpu.realtime_runtime },
		{ o->cpu_idle, "cpu-idle", &p->cpu.idle },
		{ o->pids, "pids-limit", &p->pids.limit },
		{ o->weight, "blkio-weight", &p->block_io.weight },
	};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		if (set_number(numbers[i].text, numbers[i].name, numbers[i].to, err) < 0)
			return -err->code;
	p->cpu.cpus = o->cpus;
	p->cpu.mems = o->mems;
	p->resources.memory = &p->memory;
	p->resources.cpu = &p->cpu;
	p->resources.pids = o->pids ? &p->pids : NULL;
	p->resources.block_io = &p->block_io;
	return 0;
}

static int read_resources(struct oci_arena *a, const char *path, struct oci_resources **ret, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	size_t len;

	if (fd_read_file_at(AT_FDCWD, strcmp(path, "-") == 0 ? "/proc/self/fd/0" : path, OCI_JSON_LIMIT, &text, &len,
			    err) < 0)
		return error_wrap(err, "--resources");
	return oci_resources_parse(a, text, len, ret, err);
}

/* Or it would write the old values again one day. */
static int tell_systemd(const struct oci_container *c, const struct oci_resources *r, struct error *err)
{
	struct systemd_properties properties;
	bool v2;

	if (cgroup_is_pure_v2(&v2, err) < 0 || oci_scope_limits(c->spec->arena, r, v2, &properties, err) < 0)
		return -err->code;
	return systemd_scope_set(c->unit, &properties, err);
}

static int update(const struct oci_container *c, const struct update_options *o, struct error *err)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	struct oci_arena *a = c->spec->arena;
	struct parts parts = { 0 };
	struct oci_resources *r = &parts.resources;

	if ((o->resources ? read_resources(a, o->resources, &r, err) : fill(o, &parts, err)) < 0 ||
	    oci_container_cgroup(c, &cg, err) < 0)
		return -err->code;
	if (oci_resources_apply(a, cg, r, true, err) < 0)
		return -err->code;
	return c->unit ? tell_systemd(c, r, err) : 0;
}

static int update_run(const struct invocation *inv)
{
	CLEANUP(oci_container_freep) struct oci_container *c = oci_open(inv);
	struct error err;

	if (!c)
		return EXIT_FAILED;
	return update(c, inv->options, &err) < 0 ? oci_fail(inv, &err) : EXIT_OK;
}

const struct command command_oci_update = {
	.name = "oci update", .usage = "ID", .summary = "change what a container may use", .options = rows,
	.options_size = sizeof(struct update_options), .min_args = 1, .max_args = 1, .run = update_run,
};
