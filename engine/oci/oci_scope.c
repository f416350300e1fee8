#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/cleanup.h"
#include "engine/cgroup/cgroup.h"
#include "engine/oci/oci_resources.h"
#include "engine/oci/oci_scope.h"

#define DEFAULT_SLICE "system.slice"
#define DEFAULT_PREFIX "godwit-oci"
#define ANNOTATION "org.systemd.property."
#define LIMITS_MAX 16
#define CPUS_MAX 1024
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && strcmp(s + n - m, end) == 0;
}

static int check_unit(const char *path, const char *unit, struct error *err)
{
	size_t n = strlen(unit);

	if (n > SYSTEMD_UNIT_MAX || strspn(unit, LETTERS "0123456789:-_.\\@") != n)
		return error_set(err, EINVAL, "linux.cgroupsPath: '%s': systemd takes no unit of the name '%.60s'",
				 path, unit);
	return 0;
}

static int make_name(const char *path, const char *slice, const char *prefix, const char *name, char **ret_slice,
		     char **ret_unit, struct error *err)
{
	CLEANUP(freep) char *unit = NULL;

	if (!*name || ends_with(name, ".slice") || !ends_with(slice, ".slice"))
		return error_set(err, EINVAL, "linux.cgroupsPath: '%s': with --systemd-cgroup it is SLICE:PREFIX:NAME, "
				 "SLICE ends with .slice, and NAME does not", path);
	if (asprintf(&unit, "%s%s%s.scope", prefix, *prefix ? "-" : "", name) < 0) {
		unit = NULL;
		return error_set(err, ENOMEM, "out of memory");
	}
	if (check_unit(path, unit, err) < 0 || check_unit(path, slice, err) < 0)
		return -err->code;
	*ret_slice = strdup(slice);
	*ret_unit = TAKE_PTR(unit);
	return *ret_slice ? 0 : error_set(err, ENOMEM, "out of memory");
}

int oci_scope_name(const char *cgroups_path, const char *id, char **ret_slice, char **ret_unit, struct error *err)
{
	const char *path = cgroups_path && *cgroups_path ? cgroups_path : "";
	CLEANUP(freep) char *copy = strdup(path);
	char *prefix = copy ? strchr(copy, ':') : NULL;
	char *name = prefix ? strchr(prefix + 1, ':') : NULL;

	if (!copy)
		return error_set(err, ENOMEM, "out of memory");
	if (!*path)
		return make_name(path, DEFAULT_SLICE, DEFAULT_PREFIX, id, ret_slice, ret_unit, err);
	if (!name || strchr(name + 1, ':') || strchr(copy, '/'))
		return error_set(err, EINVAL, "linux.cgroupsPath: '%s': with --systemd-cgroup it is SLICE:PREFIX:NAME",
				 path);
	*prefix++ = '\0';
	*name++ = '\0';
	return make_name(path, *copy ? copy : DEFAULT_SLICE, prefix, name, ret_slice, ret_unit, err);
}

/* --- limits ---------------------------------------------------------------------------- */

struct plan {
	struct oci_arena *arena;
	struct systemd_properties *out;
};

static struct systemd_property *put(struct plan *p, const char *name, char type, uint64_t number)
{
	struct systemd_property *to = &p->out->items[p->out->n++];

	*to = (struct systemd_property){ .name = name, .type = type, .number = number };
	return to;
}

/* Negative, or 0 where that is none, is no limit. */
static void put_limit(struct plan *p, const char *name, const struct oci_number *n, bool zero_is_none)
{
	if (n->set)
		(void)put(p, name, 't', n->value < 0 || (zero_is_none && n->value == 0) ? UINT64_MAX :
			  (uint64_t)n->value);
}

static void plan_memory(struct plan *p, const struct oci_memory *m, bool v2)
{
	if (!m)
		return;
	put_limit(p, v2 ? "MemoryMax" : "MemoryLimit", &m->limit, false);
	if (!v2)
		return;
	put_limit(p, "MemoryLow", &m->reservation, false);
	if (m->swap.set && (m->swap.value < 0 || m->limit.set))
		(void)put(p, "MemorySwapMax", 't', m->swap.value < 0 ? UINT64_MAX :
			  (uint64_t)(m->swap.value - m->limit.value));
}

/* "0-2,7" as the bits that systemd wants. */
static int put_set(struct plan *p, const char *field, const char *name, const char *list, struct error *err)
{
	uint8_t *bits = oci_arena_alloc(p->arena, CPUS_MAX / 8, 1);
	struct systemd_property *to;
	size_t used = 0;

	if (!bits)
		return error_set(err, ENOMEM, "out of memory");
	for (const char *at = list; *at; at += *at == ',') {
		char *end;
		unsigned long from = strtoul(at, &end, 10), upto = from;

		if (end != at && *end == '-') {
			at = end + 1;
			upto = strtoul(at, &end, 10);
		}
		if (end == at || (*end && *end != ',') || upto < from || upto >= CPUS_MAX)
			return error_set(err, EINVAL, "linux.resources.%s: '%s' is no list of numbers below %d",
					 field, list, CPUS_MAX);
		for (; from <= upto; from++) {
			bits[from / 8] |= (uint8_t)(1u << from % 8);
			used = from / 8 + 1 > used ? from / 8 + 1 : used;
		}
		at = end;
	}
	to = put(p, name, 'y', 0);
	to->text = (const char *)bits;
	to->len = used;
	return 0;
}

static int plan_cpu(struct plan *p, const struct oci_cpu *c, bool v2, struct error *err)
{
	const uint64_t period = c && c->period.set && c->period.value > 0 ? (uint64_t)c->period.value : 100000;

	if (!c)
		return 0;
	if (c->shares.set && c->shares.value > 0)
		(void)put(p, v2 ? "CPUWeight" : "CPUShares", 't', v2 ? oci_cpu_weight(c->shares.value) :
			  (uint64_t)c->shares.value);
	if (c->quota.set || c->period.set) {
		(void)put(p, "CPUQuotaPeriodUSec", 't', period);
		(void)put(p, "CPUQuotaPerSecUSec", 't', !c->quota.set || c->quota.value <= 0 ? UINT64_MAX :
			  (uint64_t)c->quota.value * 1000000 / period);
	}
	if (v2 && c->cpus && *c->cpus && put_set(p, "cpu.cpus", "AllowedCPUs", c->cpus, err) < 0)
		return -err->code;
	if (v2 && c->mems && *c->mems)
		return put_set(p, "cpu.mems", "AllowedMemoryNodes", c->mems, err);
	return 0;
}

static int reserve(struct oci_arena *a, size_t n, struct systemd_properties *ret, struct error *err)
{
	*ret = (struct systemd_properties){ .items = oci_arena_alloc(a, n, sizeof(*ret->items)) };
	return ret->items ? 0 : error_set(err, ENOMEM, "out of memory");
}

static int plan_limits(struct plan *p, const struct oci_resources *r, bool v2, struct error *err)
{
	if (!r)
		return 0;
	plan_memory(p, r->memory, v2);
	if (r->pids)
		put_limit(p, "TasksMax", &r->pids->limit, true);
	return plan_cpu(p, r->cpu, v2, err);
}

int oci_scope_limits(struct oci_arena *a, const struct oci_resources *r, bool pure_v2,
		     struct systemd_properties *ret, struct error *err)
{
	struct plan p = { a, ret };

	if (reserve(a, LIMITS_MAX, ret, err) < 0)
		return -err->code;
	return plan_limits(&p, r, pure_v2, err);
}

/* --- annotations ----------------------------------------------------------------------- */

static int bad_value(const struct oci_pair *pair, struct error *err)
{
	return error_set(err, EINVAL, "annotations: %s: '%.80s' is no text, boolean or number as GVariant writes them",
			 pair->key, pair->value);
}

static int parse_number(const struct oci_pair *pair, const char *text, bool is_signed, uint64_t *ret, struct error *err)
{
	char *end;

	errno = 0;
	*ret = is_signed ? (uint64_t)strtoll(text, &end, 0) : strtoull(text, &end, 0);
	return errno || end == text || *end || (!is_signed && strchr(text, '-')) ? bad_value(pair, err) : 0;
}

static int parse_text(struct oci_arena *a, const struct oci_pair *pair, struct systemd_property *p, struct error *err)
{
	const char *v = pair->value;
	size_t n = strlen(v);
	char *text;

	if (n < 2 || v[n - 1] != v[0] || strchr(v, '\\') || memchr(v + 1, v[0], n - 2))
		return bad_value(pair, err);
	text = oci_arena_alloc(a, n, 1);
	if (!text)
		return error_set(err, ENOMEM, "out of memory");
	memcpy(text, v + 1, n - 2);
	p->text = text;
	p->type = 's';
	return 0;
}

static int parse_value(struct oci_arena *a, const struct oci_pair *pair, struct systemd_property *p, struct error *err)
{
	static const struct { const char *word; char type; bool is_signed; } types[] = {
		{ "uint32 ", 'u', false }, { "uint64 ", 't', false }, { "int32 ", 'i', true }, { "int64 ", 'x', true },
		{ "", 'i', true },
	};
	const char *v = pair->value;
	size_t i = 0;

	if (*v == '\'' || *v == '"')
		return parse_text(a, pair, p, err);
	if (!strcmp(v, "true") || !strcmp(v, "false")) {
		p->type = 'b';
		p->number = *v == 't';
		return 0;
	}
	while (strncmp(v, types[i].word, strlen(types[i].word)) != 0)
		i++;
	p->type = types[i].type;
	return parse_number(pair, v + strlen(types[i].word), types[i].is_signed, &p->number, err);
}

/* TimeoutStopSec in seconds is TimeoutStopUSec on the bus. */
static int to_microseconds(struct oci_arena *a, const struct oci_pair *pair, struct systemd_property *p,
			   struct error *err)
{
	size_t n = strlen(p->name);
	char *name;

	if (!ends_with(p->name, "Sec") || ends_with(p->name, "USec"))
		return 0;
	if (!strchr("iuxt", p->type) || p->number > UINT64_MAX / 1000000)
		return bad_value(pair, err);
	name = oci_arena_alloc(a, n + 2, 1);
	if (!name)
		return error_set(err, ENOMEM, "out of memory");
	memcpy(name, p->name, n - 3);
	memcpy(name + n - 3, "USec", 5);
	p->name = name;
	p->type = 't';
	p->number *= 1000000;
	return 0;
}

static int plan_annotation(struct plan *p, const struct oci_pair *pair, struct error *err)
{
	struct systemd_property *to;
	const char *name = pair->key + strlen(ANNOTATION);

	if (strncmp(pair->key, ANNOTATION, strlen(ANNOTATION)) != 0)
		return 0;
	if (strlen(name) < 3 ||
	    strspn(name, LETTERS "0123456789") != strlen(name))
		return error_set(err, EINVAL, "annotations: '%s' names no property of a unit", pair->key);
	to = put(p, name, 's', 0);
	if (parse_value(p->arena, pair, to, err) < 0)
		return -err->code;
	return to_microseconds(p->arena, pair, to, err);
}

int oci_scope_properties(const struct oci_spec *s, bool pure_v2, struct systemd_properties *ret, struct error *err)
{
	struct plan p = { s->arena, ret };

	if (reserve(s->arena, LIMITS_MAX + s->annotations.n, ret, err) < 0 ||
	    plan_limits(&p, s->linux_->resources, pure_v2, err) < 0)
		return -err->code;
	OCI_EACH(struct oci_pair, pair, s->annotations)
		if (plan_annotation(&p, pair, err) < 0)
			return -err->code;
	return 0;
}

/* --- the scope ------------------------------------------------------------------------- */

static pid_t start_placeholder(void)
{
	const pid_t parent = getpid();
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (getppid() == parent)
		(void)pause();
	_exit(0);
}

void oci_scope_leave(pid_t *placeholder)
{
	if (*placeholder > 0) {
		(void)kill(*placeholder, SIGKILL);
		(void)waitpid(*placeholder, NULL, 0);
	}
	*placeholder = 0;
}

static void describe(char *to, size_t len, const char *id)
{
	(void)snprintf(to, len, "container %s of godwit-oci", id);
}

int oci_scope_remove(const char *id, const char *unit, struct error *err)
{
	char description[SYSTEMD_UNIT_MAX + 64];

	describe(description, sizeof(description), id);
	return systemd_scope_remove(unit, description, err);
}

int oci_scope_start(const struct oci_spec *s, const char *id, const char *slice, const char *unit,
		    pid_t *ret_placeholder, char **ret_parent, char **ret_name, struct error *err)
{
	char description[SYSTEMD_UNIT_MAX + 64];
	struct systemd_properties properties;
	pid_t pid = 0;
	bool v2;
	int r;

	if (cgroup_is_pure_v2(&v2, err) < 0 || oci_scope_properties(s, v2, &properties, err) < 0)
		return -err->code;
	pid = start_placeholder();
	if (pid < 0)
		return error_set(err, errno, "fork: %s", strerror(errno));
	describe(description, sizeof(description), id);
	r = systemd_scope_start(unit, slice, description, pid, &properties, err);
	if (r < 0)
		(void)error_wrap(err, "linux.cgroupsPath");
	if (r == 0)
		r = cgroup_of_process(pid, ret_parent, ret_name, err);
	if (r < 0)
		oci_scope_leave(&pid);
	*ret_placeholder = pid;
	return r;
}
