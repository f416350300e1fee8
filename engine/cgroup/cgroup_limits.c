#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/fd.h"
#include "engine/cgroup/cgroup_layout.h"

#define CPU_PERIOD_US 100000u
#define CPU_MILLIS_MIN 10u /* 1 ms a period is the least that the kernel takes */
#define VALUE_MAX 4096
#define V1_UNLIMITED_BYTES (UINT64_MAX >> 2) /* v1 says 2^63 less a page */

/* Files that only some kernels have (swap accounting). */
static int write_optional(int dirfd, const char *file, const char *text, struct error *err)
{
	struct error why;
	int r = fd_write_file_at(dirfd, file, text, &why);

	if (r == 0 || r == -ENOENT)
		return 0;
	*err = why;
	return r;
}

/* v1 keeps limit <= memsw at every moment, so memsw is lifted out of the way first. */
static int write_memory_v1(int fd, uint64_t bytes, bool fresh, struct error *err)
{
	char text[24] = "-1";

	if (bytes)
		(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)bytes);
	if (!fresh && write_optional(fd, "memory.memsw.limit_in_bytes", "-1", err) < 0)
		return -err->code;
	if (fd_write_file_at(fd, "memory.limit_in_bytes", text, err) < 0)
		return -err->code;
	return write_optional(fd, "memory.memsw.limit_in_bytes", text, err);
}

static int write_memory(const struct cgroup *cg, int fd, uint64_t bytes, bool fresh,
			struct error *err)
{
	char text[24] = "max";

	if (!cg->pure_v2)
		return write_memory_v1(fd, bytes, fresh, err);
	if (bytes)
		(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)bytes);
	if (fd_write_file_at(fd, "memory.max", text, err) < 0)
		return -err->code;
	return write_optional(fd, "memory.swap.max", bytes ? "0" : "max", err);
}

static int write_cpu(const struct cgroup *cg, int fd, uint64_t millis, bool fresh,
		     struct error *err)
{
	unsigned long long quota_us = millis * (CPU_PERIOD_US / 1000);
	char text[48];

	(void)fresh;
	if (millis && millis < CPU_MILLIS_MIN)
		return error_set(err, EINVAL,
				 "a processor limit of %llu thousandths is too small: "
				 "give at least 0.01",
				 (unsigned long long)millis);
	if (cg->pure_v2) {
		(void)snprintf(text, sizeof(text), "%llu %u", quota_us, CPU_PERIOD_US);
		return fd_write_file_at(fd, "cpu.max", millis ? text : "max", err);
	}
	(void)snprintf(text, sizeof(text), "%u", CPU_PERIOD_US);
	if (fd_write_file_at(fd, "cpu.cfs_period_us", text, err) < 0)
		return -err->code;
	(void)snprintf(text, sizeof(text), "%llu", quota_us);
	return fd_write_file_at(fd, "cpu.cfs_quota_us", millis ? text : "-1", err);
}

static int write_pids(const struct cgroup *cg, int fd, uint64_t pids, bool fresh, struct error *err)
{
	char text[24];

	(void)cg;
	(void)fresh;
	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)pids);
	return fd_write_file_at(fd, "pids.max", pids ? text : "max", err);
}

static const struct controller {
	const char *name;
	enum cgroup_hierarchy v1;
	int (*write)(const struct cgroup *cg, int fd, uint64_t value, bool fresh,
		     struct error *err);
} controllers[] = {
	{ "memory", CGROUP_MEMORY, write_memory },
	{ "cpu", CGROUP_CPU, write_cpu },
	{ "pids", CGROUP_PIDS, write_pids },
};

static int write_limit(const struct cgroup *cg, const struct controller *c, uint64_t value,
		       bool fresh, struct error *err)
{
	int fd = cgroup_controller_fd(cg, c->v1);
	struct error why;
	int r;

	if (fresh && value == 0)
		return 0;
	r = fd < 0 ? -ENOENT : c->write(cg, fd, value, fresh, &why);
	if (r == 0 || (r == -ENOENT && value == 0))
		return 0;
	if (r == -ENOENT && cg->pure_v2)
		return error_set(err, EOPNOTSUPP,
				 "no %s controller: enable it in cgroup.subtree_control "
				 "of every cgroup from the root to %s",
				 c->name, cg->parent);
	if (r == -ENOENT)
		return error_set(err, EOPNOTSUPP,
				 "this host has no %s controller (cgroup v1) or not "
				 "the part that limits: leave the limit out",
				 c->name);
	*err = why;
	return r;
}

/* With how to do without: the kernel may lack all of it, or a scheduler that weighs. */
static int write_disk_setting(const struct cgroup *cg, const struct cgroup_setting *s, struct error *err)
{
	struct error why;
	int r = cgroup_write_setting(cg, s, &why);

	if (r == -EOPNOTSUPP && cg->pure_v2)
		return error_set(err, EOPNOTSUPP, "%s: enable the io controller in cgroup.subtree_control of every "
				 "cgroup from the root to %s, or leave the limit out", why.msg, cg->parent);
	if (r == -EOPNOTSUPP)
		return error_set(err, EOPNOTSUPP, "%s: leave the limit out", why.msg);
	if (r < 0)
		*err = why;
	return r;
}

/* What is lifted may be on a disk that is gone. */
static int write_disk(const struct cgroup *cg, const struct disk_limit *d, struct error *err)
{
	struct cgroup_setting s;
	uint32_t major, minor;
	bool sets = false;
	struct error why;
	int r;

	for (unsigned k = 0; k < DISK_RATES; k++)
		sets = sets || (d->rates[k] && d->rates[k] != DISK_RATE_LIFTED);
	r = disk_find(d->path, &major, &minor, &why);
	if (r < 0 && !sets)
		return 0;
	for (unsigned k = 0; r == 0 && k < DISK_RATES; k++) {
		bool lifted = d->rates[k] == DISK_RATE_LIFTED;

		disk_rate_setting(cg->pure_v2, k, major, minor, lifted ? 0 : d->rates[k], &s);
		if (d->rates[k])
			r = write_disk_setting(cg, &s, &why);
	}
	if (r < 0)
		*err = why;
	return r;
}

static int write_disks(const struct cgroup *cg, const struct disk_limits *l, struct error *err)
{
	struct cgroup_setting s;

	if (l->weight) {
		disk_weight_setting(cg->pure_v2, l->weight, &s);
		if (write_disk_setting(cg, &s, err) < 0)
			return error_wrap(err, "weight of disk I/O");
	}
	for (size_t i = 0; i < l->n; i++)
		if (write_disk(cg, &l->items[i], err) < 0)
			return error_wrap(err, "limit disk %s", l->items[i].path);
	return 0;
}

int cgroup_try_limits(const char *parent, const char *name, const struct cgroup_limits *limits,
		      void (*refused)(void *ctx, const char *why), void *ctx, struct error *err)
{
	static const struct cgroup_limits none = { 0 };
	const uint64_t values[] = { limits->memory_bytes, limits->cpu_millis, limits->pids };
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	struct error why;

	if (cgroup_create(parent, name, &none, &cg, err) < 0)
		return -err->code;
	for (size_t i = 0; i < sizeof(controllers) / sizeof(*controllers); i++) {
		if (write_limit(cg, &controllers[i], values[i], true, &why) < 0) {
			(void)error_wrap(&why, "limit %s", controllers[i].name);
			refused(ctx, why.msg);
		}
	}
	if (write_disks(cg, &limits->disks, &why) < 0)
		refused(ctx, why.msg);
	return cgroup_remove(cg, err);
}

static int write_limits(const struct cgroup *cg, const struct cgroup_limits *limits, bool fresh,
			struct error *err)
{
	const uint64_t values[] = { limits->memory_bytes, limits->cpu_millis, limits->pids };

	for (size_t i = 0; i < sizeof(controllers) / sizeof(*controllers); i++)
		if (write_limit(cg, &controllers[i], values[i], fresh, err) < 0)
			return error_wrap(err, "limit %s", controllers[i].name);
	return write_disks(cg, &limits->disks, err);
}

int cgroup_init_limits(const struct cgroup *cg, const struct cgroup_limits *limits,
		       struct error *err)
{
	return write_limits(cg, limits, true, err);
}

int cgroup_set_limits(const struct cgroup *cg, const struct cgroup_limits *limits,
		      struct error *err)
{
	if (write_limits(cg, limits, false, err) < 0)
		return error_wrap(err, "cgroup %s/%s", cg->parent, cg->name);
	return 0;
}

int cgroup_limit_pids(const struct cgroup *cg, uint64_t pids, struct error *err)
{
	for (size_t i = 0; i < sizeof(controllers) / sizeof(*controllers); i++)
		if (controllers[i].v1 == CGROUP_PIDS && write_limit(cg, &controllers[i], pids, false, err) < 0)
			return error_wrap(err, "limit pids");
	return 0;
}

int cgroup_read_values(int dirfd, const char *file, uint64_t ret[2], struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	char *save = NULL;
	struct error why;
	int r;

	ret[0] = ret[1] = 0;
	r = dirfd < 0 ? -ENOENT : fd_read_file_at(dirfd, file, VALUE_MAX, &text, NULL, &why);
	if (r == -ENOENT)
		return 0;
	if (r < 0) {
		*err = why;
		return r;
	}
	for (int i = 0; i < 2; i++) {
		const char *word = strtok_r(i ? NULL : text, " \n", &save);

		if (word && *word >= '0' && *word <= '9')
			ret[i] = strtoull(word, NULL, 10);
	}
	return 0;
}

static int read_cpu_limit(const struct cgroup *cg, uint32_t *ret_millis, struct error *err)
{
	int fd = cgroup_controller_fd(cg, CGROUP_CPU);
	uint64_t quota_us[2], period_us[2];

	if (cgroup_read_values(fd, cg->pure_v2 ? "cpu.max" : "cpu.cfs_quota_us", quota_us, err) < 0)
		return -err->code;
	if (cg->pure_v2)
		period_us[0] = quota_us[1];
	else if (cgroup_read_values(fd, "cpu.cfs_period_us", period_us, err) < 0)
		return -err->code;
	*ret_millis = period_us[0] ? (uint32_t)(quota_us[0] * 1000 / period_us[0]) : 0;
	return 0;
}

int cgroup_get_limits(const struct cgroup *cg, struct cgroup_limits *ret, struct error *err)
{
	struct cgroup_limits limits = { 0 };
	uint64_t memory[2], pids[2];

	if (cgroup_read_values(cgroup_controller_fd(cg, CGROUP_MEMORY),
			cg->pure_v2 ? "memory.max" : "memory.limit_in_bytes", memory, err) < 0 ||
	    read_cpu_limit(cg, &limits.cpu_millis, err) < 0 ||
	    cgroup_read_values(cgroup_controller_fd(cg, CGROUP_PIDS), "pids.max", pids, err) < 0)
		return error_wrap(err, "cgroup %s/%s", cg->parent, cg->name);
	limits.memory_bytes = memory[0] > V1_UNLIMITED_BYTES ? 0 : memory[0];
	limits.pids = (uint32_t)pids[0];
	*ret = limits;
	return 0;
}
