#include <string.h>

#include "engine/spec_userns.h"

static json_t *map_json(const struct id_map *map)
{
	json_t *a = json_array();

	for (size_t i = 0; i < map->n; i++)
		(void)json_array_append_new(a, json_pack("{s:I,s:I,s:I}",
			"containerID", (json_int_t)map->ranges[i].container_id,
			"hostID", (json_int_t)map->ranges[i].host_id, "size", (json_int_t)map->ranges[i].size));
	return a;
}

json_t *spec_userns_add(json_t *linux_, const struct spec *s)
{
	if (!userns_is_own(&s->userns))
		return linux_;
	(void)json_object_set_new(linux_, "uidMappings", map_json(&s->userns.uids));
	(void)json_object_set_new(linux_, "gidMappings", map_json(&s->userns.gids));
	return linux_;
}

static int take_map(json_t *linux_, const char *key, struct id_map *map, struct error *err)
{
	CLEANUP(json_decrefp) json_t *a = json_incref(json_object_get(linux_, key));
	json_t *one;
	size_t i;

	(void)json_object_del(linux_, key);
	if (a && !json_is_array(a))
		return error_set(err, EINVAL, "'%s' has the wrong type", key);
	json_array_foreach(a, i, one) {
		json_int_t inside, host, size;
		json_error_t je;

		if (json_unpack_ex(one, &je, JSON_STRICT, "{s:I,s:I,s:I}", "containerID", &inside, "hostID", &host,
				   "size", &size) < 0)
			return error_set(err, EINVAL, "'%s': %s", key, je.text);
		if (id_map_add(map, (uint64_t)inside, (uint64_t)host, (uint64_t)size, err) < 0)
			return error_wrap(err, "'%s'", key);
	}
	return 0;
}

/* The kernel has no user outside of them. */
static int check_user(const struct spec *s, struct error *err)
{
	if (id_map_host(&s->userns.uids, s->uid) == ID_NONE)
		return error_set(err, EINVAL, "its user %u is not in the uid map", s->uid);
	if (id_map_host(&s->userns.gids, s->gid) == ID_NONE)
		return error_set(err, EINVAL, "its group %u is not in the gid map", s->gid);
	for (size_t i = 0; i < s->n_groups; i++)
		if (id_map_host(&s->userns.gids, s->groups[i]) == ID_NONE)
			return error_set(err, EINVAL, "its group %u is not in the gid map", s->groups[i]);
	return 0;
}

int spec_check_userns(const struct spec *s, struct error *err)
{
	if (s->userns_auto && !userns_is_own(&s->userns))
		return error_set(err, EINVAL, "ids of its own that are nowhere");
	if (userns_check(&s->userns, err) < 0 || check_user(s, err) < 0)
		return -err->code;
	for (size_t i = 0; i < s->n_volumes; i++)
		if (s->volumes[i].id_mapped && !userns_is_own(&s->userns))
			return error_set(err, EINVAL, "volume %s: idmap needs a user namespace: --userns auto",
					 s->volumes[i].source);
	return 0;
}

int spec_userns_take(json_t *linux_, struct spec *s, struct error *err)
{
	if (take_map(linux_, "uidMappings", &s->userns.uids, err) < 0 ||
	    take_map(linux_, "gidMappings", &s->userns.gids, err) < 0)
		return -err->code;
	return spec_check_userns(s, err);
}
