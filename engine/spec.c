#include <ctype.h>
#include <jansson.h>
#include <string.h>

#include "engine/capability.h"
#include "engine/spec.h"
#include "engine/spec_disks.h"
#include "engine/spec_supervision.h"
#include "engine/spec_userns.h"

#define OCI_VERSION "1.1.0"

static void strv_free(char **v)
{
	for (char **s = v; s && *s; s++)
		free(*s);
	free(v);
}

void spec_free(struct spec *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n_volumes; i++) {
		free(s->volumes[i].source);
		free(s->volumes[i].destination);
	}
	free(s->volumes);
	free(s->groups);
	strv_free(s->args);
	strv_free(s->env);
	free(s->cwd);
	free(s->health.command);
	free(s->hostname);
	free(s->image_digest);
	free(s->image);
	free(s->name);
	free(s);
}

int spec_check_name(const char *name, struct error *err)
{
	size_t len = strlen(name);

	bool good = len > 0 && len <= SPEC_NAME_MAX && isalnum((unsigned char)name[0]);

	for (const char *p = name; good && *p; p++)
		good = isalnum((unsigned char)*p) || strchr("_.-", *p);
	return good ? 0 : error_set(err, EINVAL, "container name '%.80s': must be 1 to %d letters, digits, '_', '.' "
			 "or '-', and start with a letter or digit", name, SPEC_NAME_MAX);
}

static json_t *strv_json(char *const *v)
{
	json_t *a = json_array();

	for (; v && *v; v++)
		(void)json_array_append_new(a, json_string(*v));
	return a;
}

static json_t *user_json(const struct spec *s)
{
	json_t *groups = json_array();

	for (size_t i = 0; i < s->n_groups; i++)
		(void)json_array_append_new(groups, json_integer(s->groups[i]));
	return json_pack("{s:I,s:I,s:o}", "uid", (json_int_t)s->uid, "gid", (json_int_t)s->gid,
			 "additionalGids", groups);
}

static json_t *bounding_json(uint64_t mask)
{
	json_t *a = json_array();

	for (unsigned i = 0; i < 64; i++)
		if (mask & (1ULL << i) && capability_name(i))
			(void)json_array_append_new(a, json_string(capability_name(i)));
	return json_pack("{s:o}", "bounding", a);
}

static json_t *mounts_json(const struct spec *s)
{
	json_t *a = json_array();
	char size[32];

	for (size_t i = 0; i < s->n_volumes; i++)
		(void)json_array_append_new(a, json_pack("{s:s,s:s,s:s,s:[s,s,s*]}",
			"source", s->volumes[i].source, "destination", s->volumes[i].destination,
			"type", "bind", "options", "rbind", s->volumes[i].read_only ? "ro" : "rw",
			s->volumes[i].id_mapped ? "ridmap" : NULL));
	(void)snprintf(size, sizeof(size), "size=%llu", (unsigned long long)s->shm_bytes);
	if (s->shm_bytes)
		(void)json_array_append_new(a, json_pack("{s:s,s:s,s:s,s:[s]}", "source", "shm", "destination",
			"/dev/shm", "type", "tmpfs", "options", size));
	return a;
}

/* OCI resources: cpu as quota in a period of 100 ms. */
static json_t *resources_json(const struct cgroup_limits *l)
{
	json_t *r = json_object();

	if (l->memory_bytes)
		(void)json_object_set_new(r, "memory", json_pack("{s:I}", "limit", (json_int_t)l->memory_bytes));
	if (l->cpu_millis)
		(void)json_object_set_new(r, "cpu", json_pack("{s:I,s:i}", "quota",
			(json_int_t)l->cpu_millis * 100, "period", 100000));
	if (l->disks.n || l->disks.weight)
		(void)json_object_set_new(r, "blockIO", spec_disks_json(&l->disks));
	if (l->pids)
		(void)json_object_set_new(r, "pids", json_pack("{s:I}", "limit", (json_int_t)l->pids));
	return r;
}

static json_t *annotations_json(const struct spec *s)
{
	char mac[18], created[32], ports[PORT_LIST_TEXT_MAX], flags[64];

	(void)snprintf(flags, sizeof(flags), "%s%s%s%s", s->stdin_open ? ",stdin" : "", s->auto_remove ? ",rm" : "",
		       s->nested ? ",nested" : "", s->userns_auto ? ",userns-auto" : "");
	port_list_format(s->endpoint.ports, s->endpoint.n_ports, ports);
	network_mac_format(s->endpoint.mac, mac);
	(void)snprintf(created, sizeof(created), "%llu", (unsigned long long)s->created_us);
	return json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s*,s:s*,s:s*}",
			 "org.godwit.name", s->name, "org.godwit.image", s->image,
			 "org.godwit.image-digest", s->image_digest ? s->image_digest : "",
			 "org.godwit.address", s->endpoint.address, "org.godwit.gateway", s->endpoint.gateway,
			 "org.godwit.mac", mac, "org.godwit.ports", ports,
			 "org.godwit.created-us", created,
			 "org.godwit.flags", *flags ? flags + 1 : "",
			 "org.godwit.network", *s->endpoint.network ? s->endpoint.network : NULL,
			 "org.godwit.address2", *s->endpoint.address2 ? s->endpoint.address2 : NULL,
			 "org.godwit.gateway2", *s->endpoint.gateway2 ? s->endpoint.gateway2 : NULL);
}

int spec_to_json(const struct spec *s, char **ret_text, struct error *err)
{
	CLEANUP(json_decrefp) json_t *root = json_pack(
		"{s:s,s:{s:b,s:o,s:o,s:o,s:s,s:o,s:b},s:{s:s},s:s,s:o,s:o,s:o}",
		"ociVersion", OCI_VERSION,
		"process", "terminal", s->terminal, "user", user_json(s), "args", strv_json(s->args),
		"env", strv_json(s->env), "cwd", s->cwd, "capabilities", bounding_json(s->capabilities),
		"noNewPrivileges", 1,
		"root", "path", "merged",
		"hostname", s->hostname, "mounts", mounts_json(s),
		"linux", spec_userns_add(json_pack("{s:o}", "resources", resources_json(&s->limits)), s),
		"annotations", spec_supervision_add(annotations_json(s), s));
	char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;

	if (!text)
		return error_set(err, EINVAL, "container '%s': a value is not valid UTF-8", s->name);
	*ret_text = text;
	return 0;
}
