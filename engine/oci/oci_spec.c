#include <string.h>

#include "engine/oci/oci_spec.h"

static int check_args(const struct oci_process *p, struct error *err)
{
	if (!p->args || !p->args[0] || !*p->args[0])
		return error_set(err, EINVAL, "process.args is empty: give the program to run");
	if (p->cwd[0] != '/')
		return error_set(err, EINVAL, "process.cwd: '%s' is not absolute", p->cwd);
	for (size_t i = 0; p->env && p->env[i]; i++)
		if (p->env[i][0] == '\0' || p->env[i][0] == '=' || !strchr(p->env[i], '='))
			return error_set(err, EINVAL, "process.env[%zu]: '%s' is not NAME=VALUE", i, p->env[i]);
	return 0;
}

static int check_user(const struct oci_user *u, struct error *err)
{
	const struct { const char *name; struct oci_number n; int64_t max; } ids[] = {
		{ "uid", u->uid, UINT32_MAX - 1 }, { "gid", u->gid, UINT32_MAX - 1 }, { "umask", u->umask, 0777 },
	};

	for (size_t i = 0; i < sizeof(ids) / sizeof(*ids); i++)
		if (ids[i].n.set && (ids[i].n.value < 0 || ids[i].n.value > ids[i].max))
			return error_set(err, EINVAL, "process.user.%s: %lld is out of range", ids[i].name,
					 (long long)ids[i].n.value);
	OCI_EACH(struct oci_number, g, u->additional_gids)
		if (g->value < 0 || g->value >= UINT32_MAX)
			return error_set(err, EINVAL, "process.user.additionalGids: %lld is out of range",
					 (long long)g->value);
	return 0;
}

static int check_process(const struct oci_process *p, struct error *err)
{
	if (check_args(p, err) < 0 || (p->user && check_user(p->user, err) < 0))
		return -err->code;
	if (p->oom_score_adj.set && (p->oom_score_adj.value < -1000 || p->oom_score_adj.value > 1000))
		return error_set(err, EINVAL, "process.oomScoreAdj: %lld is not within -1000 and 1000",
				 (long long)p->oom_score_adj.value);
	if (p->console_size && !p->terminal)
		return error_set(err, EINVAL, "process.consoleSize: without process.terminal there is no console");
	return 0;
}

static const char *const hook_names[] = { "prestart", "createRuntime", "createContainer", "startContainer",
					  "poststart", "poststop" };

static int check_hooks(const struct oci_hooks *hooks, struct error *err)
{
	const struct oci_list *list = &hooks->prestart;

	for (size_t i = 0; i < sizeof(hook_names) / sizeof(*hook_names); i++)
		OCI_EACH(struct oci_hook, h, list[i])
			if (h->path[0] != '/')
				return error_set(err, EINVAL, "hooks.%s: path '%s' is not absolute", hook_names[i],
						 h->path);
			else if (h->timeout.set && h->timeout.value <= 0)
				return error_set(err, EINVAL, "hooks.%s: timeout must be above 0", hook_names[i]);
	return 0;
}

static int check_mounts(const struct oci_spec *s, struct error *err)
{
	size_t i = 0;

	OCI_EACH(struct oci_mount, m, s->mounts) {
		if (m->destination[0] == '\0')
			return error_set(err, EINVAL, "mounts[%zu].destination is empty", i);
		if ((m->uid_mappings.n > 0) != (m->gid_mappings.n > 0))
			return error_set(err, EINVAL, "mounts[%zu]: uidMappings and gidMappings go together", i);
		i++;
	}
	return 0;
}

/* "1.0.2-dev" is 1.x: minor versions only add. */
static int check_version(const char *version, struct error *err)
{
	if (strncmp(version, "1.", 2) != 0)
		return error_set(err, EINVAL, "ociVersion: '%s' is none of 1.x", version);
	return 0;
}

static int check(const struct oci_spec *s, struct error *err)
{
	if (check_version(s->oci_version, err) < 0 || (s->process && check_process(s->process, err) < 0) ||
	    (s->hooks && check_hooks(s->hooks, err) < 0) || check_mounts(s, err) < 0)
		return -err->code;
	if (!s->root || !*s->root->path)
		return error_set(err, EINVAL, "root.path is missing");
	if (!s->linux_)
		return error_set(err, EINVAL, "linux is missing: only Linux containers can run here");
	OCI_EACH(struct oci_pair, a, s->annotations)
		if (!*a->key)
			return error_set(err, EINVAL, "annotations: a key is empty");
	return 0;
}

int oci_spec_parse(const char *text, size_t len, struct oci_spec **ret, struct error *err)
{
	CLEANUP(oci_arena_freep) struct oci_arena *a = NULL;
	struct oci_spec *s;

	if (oci_arena_new(&a, err) < 0)
		return -err->code;
	s = oci_arena_alloc(a, 1, sizeof(*s));
	if (!s)
		return error_set(err, ENOMEM, "out of memory");
	if (oci_decode(a, text, len, "config.json", &oci_spec_type, s, err) < 0)
		return -err->code;
	if (check(s, err) < 0)
		return error_wrap(err, "config.json");
	s->arena = TAKE_PTR(a);
	*ret = s;
	return 0;
}

void oci_spec_free(struct oci_spec *spec)
{
	if (spec)
		oci_arena_free(spec->arena);
}

int oci_process_parse(struct oci_arena *a, const char *text, size_t len, struct oci_process **ret,
		      struct error *err)
{
	struct oci_process *p = oci_arena_alloc(a, 1, sizeof(*p));

	if (!p)
		return error_set(err, ENOMEM, "out of memory");
	if (oci_decode(a, text, len, "process", &oci_process_type, p, err) < 0 || check_process(p, err) < 0)
		return -err->code;
	*ret = p;
	return 0;
}

int oci_resources_parse(struct oci_arena *a, const char *text, size_t len, struct oci_resources **ret,
			struct error *err)
{
	struct oci_resources *r = oci_arena_alloc(a, 1, sizeof(*r));

	if (!r)
		return error_set(err, ENOMEM, "out of memory");
	if (oci_decode(a, text, len, "resources", &oci_resources_type, r, err) < 0)
		return -err->code;
	*ret = r;
	return 0;
}

const char *oci_spec_annotation(const struct oci_spec *spec, const char *key)
{
	OCI_EACH(struct oci_pair, a, spec->annotations)
		if (!strcmp(a->key, key))
			return a->value;
	return NULL;
}
