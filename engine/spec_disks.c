#include <errno.h>
#include <string.h>

#include "engine/spec_disks.h"

static json_t *rates_json(const struct disk_limits *l, enum disk_rate which)
{
	json_t *a = json_array();

	for (size_t i = 0; i < l->n; i++)
		if (l->items[i].rates[which])
			(void)json_array_append_new(a, json_pack("{s:s,s:I}", "path", l->items[i].path, "rate",
								 (json_int_t)l->items[i].rates[which]));
	return a;
}

json_t *spec_disks_json(const struct disk_limits *l)
{
	json_t *o = json_object();

	if (l->weight)
		(void)json_object_set_new(o, "weight", json_integer(l->weight));
	for (unsigned k = 0; k < DISK_RATES; k++) {
		json_t *a = rates_json(l, k);

		if (json_array_size(a))
			(void)json_object_set(o, disk_rate_name(k), a);
		json_decref(a);
	}
	return o;
}

static int parse_rate(const json_t *device, enum disk_rate which, struct disk_limits *l, struct error *err)
{
	const char *path = json_string_value(json_object_get(device, "path"));
	const json_t *rate = json_object_get(device, "rate");

	for (const char *p = path; p && *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			path = NULL;
	if (!path || json_object_size(device) != 2 || !json_is_integer(rate) || json_integer_value(rate) <= 0)
		return error_set(err, EINVAL, "'%s' must hold objects of a path and a rate above 0",
				 disk_rate_name(which));
	return disk_limits_set(l, which, path, (uint64_t)json_integer_value(rate), err);
}

static int parse_rates(const json_t *list, enum disk_rate which, struct disk_limits *l, struct error *err)
{
	if (!json_is_array(list))
		return error_set(err, EINVAL, "'%s' has the wrong type", disk_rate_name(which));
	for (size_t i = 0; i < json_array_size(list); i++)
		if (parse_rate(json_array_get(list, i), which, l, err) < 0)
			return -err->code;
	return 0;
}

static int parse_weight(const json_t *v, struct disk_limits *l, struct error *err)
{
	if (!json_is_integer(v) || json_integer_value(v) < DISK_WEIGHT_MIN || json_integer_value(v) > DISK_WEIGHT_MAX)
		return error_set(err, EINVAL, "'weight' must be a number from %d to %d", DISK_WEIGHT_MIN,
				 DISK_WEIGHT_MAX);
	l->weight = (uint32_t)json_integer_value(v);
	return 0;
}

static int parse_key(const char *key, const json_t *v, struct disk_limits *l, struct error *err)
{
	if (!strcmp(key, "weight"))
		return parse_weight(v, l, err);
	for (unsigned k = 0; k < DISK_RATES; k++)
		if (!strcmp(key, disk_rate_name(k)))
			return parse_rates(v, k, l, err);
	return error_set(err, ENOTSUP, "resource 'blockIO.%.64s' is not supported", key);
}

int spec_disks_parse(const json_t *block_io, struct disk_limits *ret, struct error *err)
{
	struct disk_limits l = { 0 };
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)block_io, key, v)
		if (parse_key(key, v, &l, err) < 0)
			return -err->code;
	*ret = l;
	return 0;
}
