/*
 * spec_from_json: every key that is read is removed from a copy of its object, so
 * that what remains is unknown.
 */
#include <jansson.h>
#include <string.h>

#include "engine/capability.h"
#include "engine/spec.h"
#include "engine/spec_disks.h"
#include "engine/spec_supervision.h"
#include "engine/spec_userns.h"

struct reader {
	struct error *err;
	int r;
};

static json_t *take(struct reader *rd, json_t *object, const char *key, json_type type, bool required)
{
	json_t *v = json_object_get(object, key);

	if (rd->r < 0)
		return NULL;
	if (!v && required)
		rd->r = error_set(rd->err, EINVAL, "'%s' is missing", key);
	if (v && json_typeof(v) != type &&
	    !(type == JSON_TRUE && json_is_boolean(v)))
		rd->r = error_set(rd->err, EINVAL, "'%s' has the wrong type", key);
	if (rd->r < 0 || !v)
		return NULL;
	(void)json_incref(v);
	(void)json_object_del(object, key);
	return v;
}

static bool plain_text(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return false;
	return true;
}

static char *take_text(struct reader *rd, json_t *object, const char *key, bool required)
{
	CLEANUP(json_decrefp) json_t *v = take(rd, object, key, JSON_STRING, required);
	char *text;

	if (!v)
		return NULL;
	if (!plain_text(json_string_value(v))) {
		rd->r = error_set(rd->err, EINVAL, "'%s' has a control character", key);
		return NULL;
	}
	text = strdup(json_string_value(v));
	if (!text)
		rd->r = error_set(rd->err, ENOMEM, "out of memory");
	return text;
}

static void take_into(struct reader *rd, json_t *object, const char *key, char *buf, size_t size)
{
	CLEANUP(freep) char *text = take_text(rd, object, key, true);

	if (text && strlen(text) >= size)
		rd->r = error_set(rd->err, EINVAL, "'%s' is too long", key);
	else if (text)
		memcpy(buf, text, strlen(text) + 1);
}

static void take_into_if_there(struct reader *rd, json_t *object, const char *key, char *buf, size_t size)
{
	if (json_object_get(object, key))
		take_into(rd, object, key, buf, size);
}

static bool take_bool(struct reader *rd, json_t *object, const char *key)
{
	CLEANUP(json_decrefp) json_t *v = take(rd, object, key, JSON_TRUE, false);

	return v && json_is_true(v);
}

static uint64_t take_uint(struct reader *rd, json_t *object, const char *key, uint64_t max)
{
	CLEANUP(json_decrefp) json_t *v = take(rd, object, key, JSON_INTEGER, true);

	if (!v)
		return 0;
	if (json_integer_value(v) < 0 || (uint64_t)json_integer_value(v) > max) {
		rd->r = error_set(rd->err, EINVAL, "'%s' is out of range", key);
		return 0;
	}
	return (uint64_t)json_integer_value(v);
}

static void refuse_rest(struct reader *rd, json_t *object, const char *where)
{
	const char *key;
	json_t *v;

	if (rd->r < 0)
		return;
	json_object_foreach(object, key, v) {
		rd->r = error_set(rd->err, ENOTSUP, "%s '%.64s' is not supported", where, key);
		return;
	}
}

static json_t *take_array(struct reader *rd, json_t *object, const char *key, bool required)
{
	json_t *v = take(rd, object, key, JSON_ARRAY, required);

	if (v && json_array_size(v) > SPEC_LIST_MAX) {
		rd->r = error_set(rd->err, E2BIG, "'%s' has more than %d entries", key, SPEC_LIST_MAX);
		json_decref(v);
		return NULL;
	}
	return v;
}

static char **take_strv(struct reader *rd, json_t *object, const char *key)
{
	CLEANUP(json_decrefp) json_t *a = take_array(rd, object, key, true);
	char **v;

	if (!a)
		return NULL;
	v = calloc(json_array_size(a) + 1, sizeof(*v));
	for (size_t i = 0; v && i < json_array_size(a); i++) {
		const char *s = json_string_value(json_array_get(a, i));

		v[i] = s ? strdup(s) : NULL;
		if (!v[i]) {
			rd->r = error_set(rd->err, EINVAL, "'%s' must hold strings", key);
			break;
		}
	}
	return v;
}

static void parse_user(struct reader *rd, json_t *process, struct spec *s)
{
	CLEANUP(json_decrefp) json_t *user = take(rd, process, "user", JSON_OBJECT, true);
	CLEANUP(json_decrefp) json_t *groups = NULL;

	if (!user)
		return;
	s->uid = (uint32_t)take_uint(rd, user, "uid", UINT32_MAX - 1);
	s->gid = (uint32_t)take_uint(rd, user, "gid", UINT32_MAX - 1);
	groups = take_array(rd, user, "additionalGids", false);
	if (groups && json_array_size(groups))
		s->groups = calloc(json_array_size(groups), sizeof(*s->groups));
	for (size_t i = 0; s->groups && i < json_array_size(groups); i++) {
		json_int_t g = json_integer_value(json_array_get(groups, i));

		if (!json_is_integer(json_array_get(groups, i)) || g < 0 || g >= UINT32_MAX)
			rd->r = error_set(rd->err, EINVAL, "'additionalGids' must hold group ids");
		s->groups[s->n_groups++] = (uint32_t)g;
	}
	refuse_rest(rd, user, "user");
}

static void parse_capabilities(struct reader *rd, json_t *process, struct spec *s)
{
	CLEANUP(json_decrefp) json_t *caps = take(rd, process, "capabilities", JSON_OBJECT, true);
	CLEANUP(json_decrefp) json_t *bounding = caps ? take_array(rd, caps, "bounding", true) : NULL;

	for (size_t i = 0; bounding && i < json_array_size(bounding); i++) {
		const char *name = json_string_value(json_array_get(bounding, i));
		int n = name ? capability_from_name(name, rd->err) :
			       error_set(rd->err, EINVAL, "'bounding' must hold capability names");

		if (n < 0) {
			rd->r = n;
			return;
		}
		s->capabilities |= 1ULL << n;
	}
	if (caps)
		refuse_rest(rd, caps, "capability set");
}

static void parse_process(struct reader *rd, json_t *root, struct spec *s)
{
	CLEANUP(json_decrefp) json_t *p = take(rd, root, "process", JSON_OBJECT, true);

	if (!p)
		return;
	s->terminal = take_bool(rd, p, "terminal");
	parse_user(rd, p, s);
	s->args = take_strv(rd, p, "args");
	s->env = take_strv(rd, p, "env");
	s->cwd = take_text(rd, p, "cwd", true);
	parse_capabilities(rd, p, s);
	if (rd->r == 0 && !take_bool(rd, p, "noNewPrivileges"))
		rd->r = error_set(rd->err, ENOTSUP, "'noNewPrivileges' must be true");
	if (rd->r == 0 && !s->args[0])
		rd->r = error_set(rd->err, EINVAL, "'args' is empty");
	if (rd->r == 0 && s->cwd[0] != '/')
		rd->r = error_set(rd->err, EINVAL, "'cwd' must be absolute");
	refuse_rest(rd, p, "process setting");
}

/* The only one is /dev/shm, and all that it has is a size. */
static void parse_tmpfs(struct reader *rd, json_t *m, struct spec *s)
{
	CLEANUP(freep) char *destination = take_text(rd, m, "destination", true);
	CLEANUP(json_decrefp) json_t *options = take_array(rd, m, "options", true);
	const char *size = options ? json_string_value(json_array_get(options, 0)) : NULL;
	unsigned long long bytes = 0;
	char rest;

	free(take_text(rd, m, "source", true));
	if (rd->r == 0 && (strcmp(destination, "/dev/shm") != 0 || json_array_size(options) != 1 || !size ||
			   sscanf(size, "size=%llu%c", &bytes, &rest) != 1 || !bytes || bytes > INT64_MAX))
		rd->r = error_set(rd->err, ENOTSUP, "a tmpfs other than /dev/shm with an option size=BYTES");
	s->shm_bytes = bytes;
	refuse_rest(rd, m, "mount setting");
}

static void parse_volume(struct reader *rd, json_t *m, struct spec_volume *v)
{
	CLEANUP(json_decrefp) json_t *options = NULL;

	v->source = take_text(rd, m, "source", true);
	v->destination = take_text(rd, m, "destination", true);
	options = take_array(rd, m, "options", true);
	for (size_t i = 0; options && i < json_array_size(options); i++) {
		const char *o = json_string_value(json_array_get(options, i));

		if (o && !strcmp(o, "ro"))
			v->read_only = true;
		else if (o && !strcmp(o, "ridmap"))
			v->id_mapped = true;
		else if (!o || (strcmp(o, "rw") != 0 && strcmp(o, "rbind") != 0))
			rd->r = error_set(rd->err, ENOTSUP, "mount option '%.32s' is not supported", o ? o : "?");
	}
	if (rd->r == 0 && (v->source[0] != '/' || v->destination[0] != '/'))
		rd->r = error_set(rd->err, EINVAL, "volume %s:%s: both paths must be absolute",
				  v->source, v->destination);
	refuse_rest(rd, m, "mount setting");
}

static void parse_mount(struct reader *rd, json_t *m, struct spec *s)
{
	CLEANUP(freep) char *type = take_text(rd, m, "type", true);

	if (type && !strcmp(type, "tmpfs"))
		parse_tmpfs(rd, m, s);
	else if (type && strcmp(type, "bind") != 0)
		rd->r = error_set(rd->err, ENOTSUP, "mount type '%.32s' is not supported", type);
	else
		parse_volume(rd, m, &s->volumes[s->n_volumes++]);
}

static void parse_mounts(struct reader *rd, json_t *root, struct spec *s)
{
	CLEANUP(json_decrefp) json_t *a = take_array(rd, root, "mounts", true);

	if (!a || !json_array_size(a))
		return;
	s->volumes = calloc(json_array_size(a), sizeof(*s->volumes));
	for (size_t i = 0; s->volumes && rd->r == 0 && i < json_array_size(a); i++) {
		json_t *m = json_array_get(a, i);

		if (!json_is_object(m))
			rd->r = error_set(rd->err, EINVAL, "'mounts' must hold objects");
		else
			parse_mount(rd, m, s);
	}
}

static void parse_linux(struct reader *rd, json_t *root, struct spec *s)
{
	struct cgroup_limits *l = &s->limits;
	CLEANUP(json_decrefp) json_t *lin = take(rd, root, "linux", JSON_OBJECT, true);
	CLEANUP(json_decrefp) json_t *res = lin ? take(rd, lin, "resources", JSON_OBJECT, true) : NULL;
	CLEANUP(json_decrefp) json_t *mem = res ? take(rd, res, "memory", JSON_OBJECT, false) : NULL;
	CLEANUP(json_decrefp) json_t *cpu = res ? take(rd, res, "cpu", JSON_OBJECT, false) : NULL;
	CLEANUP(json_decrefp) json_t *pids = res ? take(rd, res, "pids", JSON_OBJECT, false) : NULL;
	CLEANUP(json_decrefp) json_t *disks = res ? take(rd, res, "blockIO", JSON_OBJECT, false) : NULL;
	uint64_t period;

	if (disks && spec_disks_parse(disks, &l->disks, rd->err) < 0)
		rd->r = -rd->err->code;
	if (mem)
		l->memory_bytes = take_uint(rd, mem, "limit", INT64_MAX);
	if (pids)
		l->pids = (uint32_t)take_uint(rd, pids, "limit", 4194304);
	if (cpu) {
		period = take_uint(rd, cpu, "period", 1000000);
		l->cpu_millis = (uint32_t)(take_uint(rd, cpu, "quota", 1000ULL * 1000000) * 1000 /
					   (period ? period : 100000));
	}
	if (rd->r == 0)
		rd->r = spec_userns_take(lin, s, rd->err);
	for (size_t i = 0; i < 5; i++) {
		json_t *part = (json_t *[]){ mem, cpu, pids, res, lin }[i];

		if (part)
			refuse_rest(rd, part, "resource");
	}
}

static void parse_flags(struct reader *rd, struct spec *s, const char *flags)
{
	CLEANUP(freep) char *copy = strdup(flags);
	char *save = NULL;

	for (char *f = strtok_r(copy, ",", &save); f; f = strtok_r(NULL, ",", &save)) {
		if (!strcmp(f, "stdin"))
			s->stdin_open = true;
		else if (!strcmp(f, "rm"))
			s->auto_remove = true;
		else if (!strcmp(f, "nested"))
			s->nested = true;
		else if (!strcmp(f, "userns-auto"))
			s->userns_auto = true;
		else
			rd->r = error_set(rd->err, ENOTSUP, "flag '%.32s' is not supported", f);
	}
}

static void parse_annotations(struct reader *rd, json_t *root, struct spec *s)
{
	CLEANUP(json_decrefp) json_t *a = take(rd, root, "annotations", JSON_OBJECT, true);
	char mac[18] = "", created[32] = "", flags[64] = "", ports[PORT_LIST_TEXT_MAX] = "";

	if (!a)
		return;
	rd->r = rd->r < 0 ? rd->r : spec_supervision_take(a, s, rd->err);
	s->name = take_text(rd, a, "org.godwit.name", true);
	s->image = take_text(rd, a, "org.godwit.image", true);
	s->image_digest = take_text(rd, a, "org.godwit.image-digest", true);
	take_into(rd, a, "org.godwit.address", s->endpoint.address, sizeof(s->endpoint.address));
	take_into(rd, a, "org.godwit.gateway", s->endpoint.gateway, sizeof(s->endpoint.gateway));
	take_into(rd, a, "org.godwit.mac", mac, sizeof(mac));
	take_into_if_there(rd, a, "org.godwit.ports", ports, sizeof(ports));	/* older ones have none */
	take_into_if_there(rd, a, "org.godwit.network", s->endpoint.network, sizeof(s->endpoint.network));
	take_into_if_there(rd, a, "org.godwit.address2", s->endpoint.address2, sizeof(s->endpoint.address2));
	take_into_if_there(rd, a, "org.godwit.gateway2", s->endpoint.gateway2, sizeof(s->endpoint.gateway2));
	take_into(rd, a, "org.godwit.created-us", created, sizeof(created));
	take_into(rd, a, "org.godwit.flags", flags, sizeof(flags));
	refuse_rest(rd, a, "annotation");
	if (rd->r < 0)
		return;
	s->created_us = strtoull(created, NULL, 10);
	parse_flags(rd, s, flags);
	if (rd->r == 0)
		rd->r = spec_check_name(s->name, rd->err);
	if (rd->r == 0 && s->endpoint.network[0])
		rd->r = spec_check_name(s->endpoint.network, rd->err);
	if (rd->r == 0 && s->endpoint.address[0])	/* else it has no interface */
		rd->r = network_mac_parse(mac, s->endpoint.mac, rd->err);
	if (rd->r == 0)
		rd->r = port_list_parse(ports, s->endpoint.ports, &s->endpoint.n_ports, rd->err);
}

static int parse_root(json_t *root, struct spec *s, struct error *err)
{
	struct reader rd = { .err = err };
	CLEANUP(freep) char *version = take_text(&rd, root, "ociVersion", true);

	json_decref(take(&rd, root, "root", JSON_OBJECT, true));	/* implied by the engine */
	if (version && strncmp(version, "1.", 2) != 0)
		return error_set(err, ENOTSUP, "ociVersion %.32s is not supported", version);
	s->hostname = take_text(&rd, root, "hostname", true);
	if (s->hostname && strlen(s->hostname) > 64)
		return error_set(err, EINVAL, "'hostname' is longer than 64 characters");
	parse_process(&rd, root, s);
	parse_mounts(&rd, root, s);
	parse_linux(&rd, root, s);
	parse_annotations(&rd, root, s);
	refuse_rest(&rd, root, "setting");
	return rd.r;
}

int spec_from_json(const char *text, size_t len, struct spec **ret, struct error *err)
{
	CLEANUP(spec_freep) struct spec *s = calloc(1, sizeof(*s));
	CLEANUP(json_decrefp) json_t *root = NULL;
	json_error_t je;

	if (!s)
		return error_set(err, ENOMEM, "out of memory");
	if (len > SPEC_JSON_LIMIT)
		return error_set(err, EFBIG, "container configuration: larger than %d bytes", SPEC_JSON_LIMIT);
	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
	if (!json_is_object(root))
		return error_set(err, EINVAL, "container configuration: line %d: %s", je.line,
				 root ? "not an object" : je.text);
	if (parse_root(root, s, err) < 0)
		return error_wrap(err, "container configuration");
	*ret = TAKE_PTR(s);
	return 0;
}
