#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "engine/devices.h"
#include "engine/oci/oci_resources.h"

#define SETTINGS_MAX 512

struct plan {
	struct oci_settings *out;
	bool v2;
};

static int put(struct plan *p, const char *field, const char *controller, const char *file, struct error *err,
	       const char *fmt, ...) __attribute__((format(printf, 6, 7)));

static int put(struct plan *p, const char *field, const char *controller, const char *file, struct error *err,
	       const char *fmt, ...)
{
	struct oci_setting *s = &p->out->items[p->out->n];
	va_list ap;
	int n;

	if (p->out->n == SETTINGS_MAX)
		return error_set(err, E2BIG, "linux.resources: more than %d settings", SETTINGS_MAX);
	*s = (struct oci_setting){ .field = field, .setting = { .controller = controller } };
	if ((size_t)snprintf(s->setting.file, sizeof(s->setting.file), "%s", file) >= sizeof(s->setting.file))
		return error_set(err, EINVAL, "linux.resources.%s: '%.60s' is too long", field, file);
	va_start(ap, fmt);
	n = vsnprintf(s->setting.value, sizeof(s->setting.value), fmt, ap);
	va_end(ap);
	if ((size_t)n >= sizeof(s->setting.value))
		return error_set(err, EINVAL, "linux.resources.%s: the value is too long", field);
	p->out->n++;
	return 0;
}

static int not_here(const char *field, const char *why, struct error *err)
{
	return error_set(err, ENOTSUP, "linux.resources.%s: %s", field, why);
}

#define NOT_IN_V2 "cgroup v2 has nothing like it"

/* "max" on v2, -1 on v1 for a negative number. */
static int put_limit(struct plan *p, const char *field, const char *controller, const char *v1, const char *v2,
		     const struct oci_number *n, struct error *err)
{
	if (!n->set)
		return 0;
	if (p->v2 && !v2)
		return not_here(field, NOT_IN_V2, err);
	if (p->v2 && n->value < 0)
		return put(p, field, controller, v2, err, "max");
	return put(p, field, controller, p->v2 ? v2 : v1, err, "%lld", (long long)n->value);
}

/* --- memory ------------------------------------------------------------------------ */

static int plan_swap(struct plan *p, const struct oci_memory *m, struct error *err)
{
	if (!m->swap.set)
		return 0;
	if (!p->v2)
		return put_limit(p, "memory.swap", "memory", "memory.memsw.limit_in_bytes", NULL, &m->swap, err);
	if (m->swap.value < 0)
		return put(p, "memory.swap", "memory", "memory.swap.max", err, "max");
	if (!m->limit.set || m->limit.value <= 0 || m->swap.value < m->limit.value)
		return error_set(err, EINVAL, "linux.resources.memory.swap: it is memory and swap together: give "
				 "memory.limit, and not more than that");
	return put(p, "memory.swap", "memory", "memory.swap.max", err, "%lld",
		   (long long)(m->swap.value - m->limit.value));
}

static int plan_memory(struct plan *p, const struct oci_memory *m, struct error *err)
{
	if (!m)
		return 0;
	if (put_limit(p, "memory.limit", "memory", "memory.limit_in_bytes", "memory.max", &m->limit, err) < 0 ||
	    put_limit(p, "memory.reservation", "memory", "memory.soft_limit_in_bytes", "memory.low", &m->reservation,
		      err) < 0 ||
	    plan_swap(p, m, err) < 0 ||
	    put_limit(p, "memory.kernel", "memory", "memory.kmem.limit_in_bytes", NULL, &m->kernel, err) < 0 ||
	    put_limit(p, "memory.kernelTCP", "memory", "memory.kmem.tcp.limit_in_bytes", NULL, &m->kernel_tcp,
	    err) < 0 ||
	    put_limit(p, "memory.swappiness", "memory", "memory.swappiness", NULL, &m->swappiness, err) < 0)
		return -err->code;
	if (m->disable_oom_killer && p->v2)
		return not_here("memory.disableOOMKiller", NOT_IN_V2, err);
	if (m->disable_oom_killer && put(p, "memory.disableOOMKiller", "memory", "memory.oom_control", err, "1") < 0)
		return -err->code;
	if (m->use_hierarchy && !p->v2)		/* v2 always has it */
		return put(p, "memory.useHierarchy", "memory", "memory.use_hierarchy", err, "1");
	return 0;
}

/* --- cpu, cpuset, pids ---------------------------------------------------------------- */

static int plan_bandwidth(struct plan *p, const struct oci_cpu *c, struct error *err)
{
	const long long period = c->period.set && c->period.value ? c->period.value : 100000;

	if (!p->v2)
		return put_limit(p, "cpu.period", "cpu", "cpu.cfs_period_us", NULL, &c->period, err) < 0 ||
		       put_limit(p, "cpu.quota", "cpu", "cpu.cfs_quota_us", NULL, &c->quota, err) < 0 ||
		       put_limit(p, "cpu.burst", "cpu", "cpu.cfs_burst_us", NULL, &c->burst, err) < 0 ? -err->code :
		       0;
	if (c->quota.set && c->quota.value > 0) {
		if (put(p, "cpu.quota", "cpu", "cpu.max", err, "%lld %lld", (long long)c->quota.value, period) < 0)
			return -err->code;
	} else if ((c->quota.set || c->period.set) &&
		   put(p, "cpu.period", "cpu", "cpu.max", err, "max %lld", period) < 0) {
		return -err->code;
	}
	return put_limit(p, "cpu.burst", "cpu", NULL, "cpu.max.burst", &c->burst, err);
}

unsigned oci_cpu_weight(int64_t shares)
{
	const int64_t s = shares < 2 ? 2 : shares > 262144 ? 262144 : shares;

	return (unsigned)(1 + (s - 2) * 9999 / 262142);
}

static int plan_shares(struct plan *p, const struct oci_cpu *c, struct error *err)
{
	const struct oci_number *s = &c->shares;

	if (!s->set || s->value == 0)
		return 0;
	return p->v2 ? put(p, "cpu.shares", "cpu", "cpu.weight", err, "%u", oci_cpu_weight(s->value)) :
		       put(p, "cpu.shares", "cpu", "cpu.shares", err, "%lld", (long long)s->value);
}

static int plan_cpu(struct plan *p, const struct oci_cpu *c, struct error *err)
{
	if (!c)
		return 0;
	if ((c->cpus && *c->cpus && put(p, "cpu.cpus", "cpuset", "cpuset.cpus", err, "%s", c->cpus) < 0) ||
	    (c->mems && *c->mems && put(p, "cpu.mems", "cpuset", "cpuset.mems", err, "%s", c->mems) < 0) ||
	    plan_shares(p, c, err) < 0 || plan_bandwidth(p, c, err) < 0 ||
	    put_limit(p, "cpu.realtimePeriod", "cpu", "cpu.rt_period_us", NULL, &c->realtime_period, err) < 0 ||
	    put_limit(p, "cpu.realtimeRuntime", "cpu", "cpu.rt_runtime_us", NULL, &c->realtime_runtime, err) < 0 ||
	    put_limit(p, "cpu.idle", "cpu", "cpu.idle", "cpu.idle", &c->idle, err) < 0)
		return -err->code;
	return 0;
}

static int plan_pids(struct plan *p, const struct oci_pids *pids, struct error *err)
{
	if (!pids)
		return 0;
	return pids->limit.value > 0 ? put(p, "pids.limit", "pids", "pids.max", err, "%lld",
		(long long)pids->limit.value) :
				       put(p, "pids.limit", "pids", "pids.max", err, "max");
}

/* --- block I/O -------------------------------------------------------------------------- */

static int check_weight(const char *field, long long weight, struct error *err)
{
	return weight >= 10 && weight <= 1000 ? 0 :
		error_set(err, EINVAL, "linux.resources.%s: %lld is not within 10 and 1000", field, weight);
}

static int put_setting(struct plan *p, const char *field, const struct cgroup_setting *s, struct error *err)
{
	if (put(p, field, s->controller, s->file, err, "%s", s->value) < 0)
		return -err->code;
	p->out->items[p->out->n - 1].setting = *s;
	return 0;
}

static int put_weight(struct plan *p, const char *field, const char *device, long long weight, bool leaf,
		      struct error *err)
{
	struct cgroup_setting s;

	if (check_weight(field, weight, err) < 0)
		return -err->code;
	if (p->v2 && leaf)
		return not_here(field, NOT_IN_V2, err);
	if (leaf)
		return put(p, field, "io", *device ? "blkio.leaf_weight_device" : "blkio.leaf_weight", err, "%s%lld",
			   device, weight);
	if (!*device) {
		disk_weight_setting(p->v2, (uint32_t)weight, &s);
		return put_setting(p, field, &s, err);
	}
	if (put(p, field, "io", p->v2 ? "io.bfq.weight" : "blkio.weight_device", err, "%s%lld", device, weight) < 0)
		return -err->code;
	p->out->items[p->out->n - 1].setting.other = p->v2 ? NULL : "blkio.bfq.weight_device";
	return 0;
}

static int plan_throttle(struct plan *p, enum disk_rate which, const struct oci_list *list, struct error *err)
{
	static const char *const fields[DISK_RATES] = {
		"blockIO.throttleReadBpsDevice", "blockIO.throttleWriteBpsDevice", "blockIO.throttleReadIOPSDevice",
		"blockIO.throttleWriteIOPSDevice",
	};

	OCI_EACH(struct oci_throttle_device, d, *list) {
		struct cgroup_setting s;

		disk_rate_setting(p->v2, which, d->major.value, d->minor.value, (uint64_t)d->rate.value, &s);
		if (put_setting(p, fields[which], &s, err) < 0)
			return -err->code;
	}
	return 0;
}

static int plan_weight_devices(struct plan *p, const struct oci_block_io *b, struct error *err)
{
	OCI_EACH(struct oci_weight_device, d, b->weight_device) {
		char device[48];

		(void)snprintf(device, sizeof(device), "%lld:%lld ", (long long)d->major.value,
			(long long)d->minor.value);
		if ((d->weight.set && put_weight(p, "blockIO.weightDevice", device, d->weight.value, false,
			err) < 0) ||
		    (d->leaf_weight.set && put_weight(p, "blockIO.weightDevice.leafWeight", device,
		    d->leaf_weight.value,
						      true, err) < 0))
			return -err->code;
	}
	return 0;
}

static int plan_block_io(struct plan *p, const struct oci_block_io *b, struct error *err)
{
	if (!b)
		return 0;
	if ((b->weight.set && b->weight.value && put_weight(p, "blockIO.weight", "", b->weight.value, false,
		err) < 0) ||
	    (b->leaf_weight.set && b->leaf_weight.value &&
	     put_weight(p, "blockIO.leafWeight", "", b->leaf_weight.value, true, err) < 0) ||
	    plan_weight_devices(p, b, err) < 0 ||
	    plan_throttle(p, DISK_READ_BPS, &b->read_bps, err) < 0 ||
	    plan_throttle(p, DISK_WRITE_BPS, &b->write_bps, err) < 0 ||
	    plan_throttle(p, DISK_READ_IOPS, &b->read_iops, err) < 0 ||
	    plan_throttle(p, DISK_WRITE_IOPS, &b->write_iops, err) < 0)
		return -err->code;
	return 0;
}

/* --- the rest ---------------------------------------------------------------------------- */

static int plan_hugepages(struct plan *p, const struct oci_list *list, struct error *err)
{
	OCI_EACH(struct oci_hugepage_limit, h, *list) {
		char file[96];

		if (strpbrk(h->page_size, "/."))
			return error_set(err, EINVAL, "linux.resources.hugepageLimits: '%s' is no size",
				h->page_size);
		(void)snprintf(file, sizeof(file), p->v2 ? "hugetlb.%.60s.max" : "hugetlb.%.60s.limit_in_bytes",
			       h->page_size);
		if (put(p, "hugepageLimits", "hugetlb", file, err, "%llu", (unsigned long long)h->limit.value) < 0)
			return -err->code;
	}
	return 0;
}

static int plan_network(struct plan *p, const struct oci_network *n, struct error *err)
{
	if (!n)
		return 0;
	if (put_limit(p, "network.classID", "net_cls", "net_cls.classid", NULL, &n->class_id, err) < 0)
		return -err->code;
	OCI_EACH(struct oci_interface_priority, i, n->priorities) {
		if (p->v2)
			return not_here("network.priorities", NOT_IN_V2, err);
		if (put(p, "network.priorities", "net_prio", "net_prio.ifpriomap", err, "%s %lld", i->name,
			(long long)i->priority.value) < 0)
			return -err->code;
	}
	return 0;
}

static int plan_rdma(struct plan *p, const struct oci_list *list, struct error *err)
{
	OCI_EACH(struct oci_rdma, d, *list) {
		char handles[40] = "", objects[40] = "";

		if (d->hca_handles.set)
			(void)snprintf(handles, sizeof(handles), " hca_handle=%lld", (long long)d->hca_handles.value);
		if (d->hca_objects.set)
			(void)snprintf(objects, sizeof(objects), " hca_object=%lld", (long long)d->hca_objects.value);
		if (put(p, "rdma", "rdma", "rdma.max", err, "%s%s%s", d->key, handles, objects) < 0)
			return -err->code;
	}
	return 0;
}

static int plan_unified(struct plan *p, const struct oci_list *list, struct error *err)
{
	OCI_EACH(struct oci_pair, u, *list) {
		if (strchr(u->key, '/') || !strchr(u->key, '.') || !strncmp(u->key, "cgroup.procs", 12))
			return error_set(err, EINVAL, "linux.resources.unified: '%s' is no file of a control group",
				u->key);
		if (put(p, "unified", "", u->key, err, "%s", u->value) < 0)
			return -err->code;
	}
	return 0;
}

int oci_resources_plan(struct oci_arena *a, const struct oci_resources *r, bool pure_v2,
		       struct oci_settings *ret, struct error *err)
{
	struct plan p = { .out = ret, .v2 = pure_v2 };

	*ret = (struct oci_settings){ .items = oci_arena_alloc(a, SETTINGS_MAX, sizeof(*ret->items)) };
	if (!ret->items)
		return error_set(err, ENOMEM, "out of memory");
	if (plan_cpu(&p, r->cpu, err) < 0 || plan_memory(&p, r->memory, err) < 0 || plan_pids(&p, r->pids, err) < 0 ||
	    plan_block_io(&p, r->block_io, err) < 0 || plan_hugepages(&p, &r->hugepage_limits, err) < 0 ||
	    plan_network(&p, r->network, err) < 0 || plan_rdma(&p, &r->rdma, err) < 0 ||
	    plan_unified(&p, &r->unified, err) < 0)
		return -err->code;
	return 0;
}

/* A pair of limits (memory, and memory with swap; quota and period) can be in each other's
 * way: what is refused at first may do when the others are written. */
static int write_all(const struct cgroup *cg, const struct oci_settings *s, struct error *err)
{
	struct error why;
	bool late[SETTINGS_MAX] = { false };

	for (size_t i = 0; i < s->n; i++) {
		int r = cgroup_write_setting(cg, &s->items[i].setting, &why);

		late[i] = r == -EINVAL || r == -EBUSY;
		if (r < 0 && !late[i]) {
			*err = why;
			return error_wrap(err, "linux.resources.%s", s->items[i].field);
		}
	}
	for (size_t i = 0; i < s->n; i++)
		if (late[i] && cgroup_write_setting(cg, &s->items[i].setting, err) < 0)
			return error_wrap(err, "linux.resources.%s", s->items[i].field);
	return 0;
}

static int check_usage(const struct cgroup *cg, const struct oci_resources *r, bool pure_v2, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	const struct oci_memory *m = r->memory;

	if (!m || !m->check_before_update || !m->limit.set || m->limit.value <= 0)
		return 0;
	if (cgroup_read_setting(cg, "memory", pure_v2 ? "memory.current" : "memory.usage_in_bytes", &text, err) < 0)
		return -err->code;
	return strtoll(text, NULL, 10) <= m->limit.value ? 0 :
		error_set(err, EBUSY, "linux.resources.memory.checkBeforeUpdate: more than the limit is in use");
}

static int make_rule(const struct oci_device_rule *d, struct device_rule *ret, struct error *err)
{
	const char *type = d->type && *d->type ? d->type : "a", *access = d->access && *d->access ? d->access : "rwm";

	if (!strchr("abc", *type) || type[1])
		return error_set(err, EINVAL, "linux.resources.devices: type '%s' is none of a, b and c", type);
	*ret = (struct device_rule){ .allow = d->allow, .type = *type,
				     .major = d->major.set && d->major.value >= 0 ? (int32_t)d->major.value :
				     DEVICE_ANY,
				     .minor = d->minor.set && d->minor.value >= 0 ? (int32_t)d->minor.value :
				     DEVICE_ANY };
	for (; *access; access++) {
		uint32_t bit = *access == 'r' ? DEVICE_READ : *access == 'w' ? DEVICE_WRITE :
			       *access == 'm' ? DEVICE_MKNOD : 0;

		if (!bit)
			return error_set(err, EINVAL, "linux.resources.devices: access '%s' is not of r, w and m",
					 d->access);
		ret->access |= bit;
	}
	return 0;
}

static int apply_devices(struct oci_arena *a, const struct cgroup *cg, const struct oci_list *list, struct error *err)
{
	struct device_rule *rules = oci_arena_alloc(a, list->n, sizeof(*rules));
	size_t n = 0;

	if (!rules)
		return error_set(err, ENOMEM, "out of memory");
	OCI_EACH(struct oci_device_rule, d, *list)
		if (make_rule(d, &rules[n++], err) < 0)
			return -err->code;
	return devices_attach_with_default(cgroup_fd(cg), rules, n, err);
}

int oci_resources_apply(struct oci_arena *a, const struct cgroup *cg, const struct oci_resources *r,
			bool only_given, struct error *err)
{
	static const struct oci_resources none;
	struct oci_settings settings;
	bool pure_v2;

	if (!r)
		r = &none;
	if (cgroup_is_pure_v2(&pure_v2, err) < 0 || oci_resources_plan(a, r, pure_v2, &settings, err) < 0 ||
	    check_usage(cg, r, pure_v2, err) < 0 || write_all(cg, &settings, err) < 0)
		return -err->code;
	return only_given && r->devices.n == 0 ? 0 : apply_devices(a, cg, &r->devices, err);
}
