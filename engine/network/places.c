#include <jansson.h>
#include <string.h>

#include "engine/network/places.h"

void places_free(struct places *p)
{
	free(p->list);
	*p = (struct places){ 0 };
}

int places_add(struct places *p, const struct place *place, struct error *err)
{
	struct place *more;

	if (p->n % 32 == 0) {
		more = reallocarray(p->list, p->n + 32, sizeof(*more));
		if (!more)
			return error_set(err, ENOMEM, "out of memory");
		p->list = more;
	}
	p->list[p->n++] = *place;
	return 0;
}

/* ---- JSON ---- */

static bool same_family(const char *a, const char *b)
{
	return (strchr(a, ':') != NULL) == (strchr(b, ':') != NULL);
}

static int take_place(json_t *object, const struct named_network *n, struct place *p, struct error *err)
{
	const char *name, *address, *address2, *mac;
	json_int_t created = 0, moves = 0;
	json_error_t je;
	int live = 0;

	if (json_unpack_ex(object, &je, JSON_STRICT, "{s:s,s:s,s:s,s:s,s:I,s:I,s:b}", "name", &name, "address",
			   &address, "address2", &address2, "mac", &mac, "created_us", &created, "moves", &moves,
			   "live", &live) < 0)
		return error_set(err, EINVAL, "%s", je.text);
	if (spec_check_name(name, err) < 0 || named_network_host(n, address, p->address[0], err) < 0 ||
	    (*address2 && named_network_host(n, address2, p->address[1], err) < 0) ||
	    network_mac_parse(mac, p->mac, err) < 0)
		return -err->code;
	if (*address2 && same_family(address, address2))
		return error_set(err, EINVAL, "addresses %s and %s are of one family", address, address2);
	if (created < 0 || moves < 0 || moves > INT32_MAX)
		return error_set(err, EINVAL, "'created_us' or 'moves' is out of range");
	memcpy(p->name, name, strlen(name) + 1);
	p->created_us = (uint64_t)created;
	p->moves = (uint32_t)moves;
	p->live = live;
	return 0;
}

static int take_places(json_t *root, const struct named_network *n, struct places *p, struct error *err)
{
	json_int_t sequence = 0;
	json_t *list, *object;
	json_error_t je;
	size_t i;

	if (json_unpack_ex(root, &je, JSON_STRICT, "{s:I,s:o}", "sequence", &sequence, "places", &list) < 0)
		return error_set(err, EINVAL, "%s", je.text);
	if (!json_is_array(list) || json_array_size(list) > PLACES_MAX || sequence < 0)
		return error_set(err, EINVAL, "'places' must be at most %d, and 'sequence' not below 0", PLACES_MAX);
	p->sequence = (uint64_t)sequence;
	json_array_foreach(list, i, object) {
		struct place place = { 0 };

		if (take_place(object, n, &place, err) < 0 || places_add(p, &place, err) < 0)
			return -err->code;
	}
	return 0;
}

int places_parse(const char *text, size_t len, const struct named_network *n, struct places *ret, struct error *err)
{
	CLEANUP(json_decrefp) json_t *root = NULL;
	CLEANUP(places_free) struct places p = { 0 };
	json_error_t je;

	if (len > PLACES_JSON_LIMIT)
		return error_set(err, EFBIG, "places: larger than %d bytes", PLACES_JSON_LIMIT);
	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
	if (!json_is_object(root))
		return error_set(err, EINVAL, "places: line %d: %s", je.line, root ? "not an object" : je.text);
	if (take_places(root, n, &p, err) < 0)
		return error_wrap(err, "places");
	*ret = p;
	p = (struct places){ 0 };
	return 0;
}

int places_format(const struct places *p, char **ret_text, struct error *err)
{
	CLEANUP(json_decrefp) json_t *root = NULL;
	json_t *list = json_array();
	char mac[18];

	for (size_t i = 0; i < p->n; i++) {
		const struct place *one = &p->list[i];

		network_mac_format(one->mac, mac);
		(void)json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s,s:I,s:I,s:b}", "name", one->name,
			"address", one->address[0], "address2", one->address[1], "mac", mac,
			"created_us", (json_int_t)one->created_us, "moves", (json_int_t)one->moves,
			"live", one->live));
	}
	root = json_pack("{s:I,s:o}", "sequence", (json_int_t)p->sequence, "places", list);
	*ret_text = root ? json_dumps(root, JSON_COMPACT) : NULL;
	return *ret_text ? 0 : error_set(err, ENOMEM, "out of memory");
}

/* ---- which of them count ---- */

bool place_is_newer(const struct place *a, const struct place *b)
{
	if (a->created_us != b->created_us)
		return a->created_us > b->created_us;
	if (a->moves != b->moves)
		return a->moves > b->moves;
	return a->live && !b->live;
}

/* By address, of equal ones the newest first. */
static int compare(const void *a, const void *b)
{
	const struct place *x = a, *y = b;
	int r = strcmp(x->address[0], y->address[0]);

	if (r)
		return r;
	if (place_is_newer(x, y))
		return -1;
	return place_is_newer(y, x) ? 1 : x->member < y->member ? -1 : x->member > y->member;
}

int places_merge(const struct places *claims, size_t n_claims, struct places *ret, struct error *err)
{
	struct places all = { 0 };
	size_t n = 0;

	for (size_t m = 0; m < n_claims; m++)
		for (size_t i = 0; i < claims[m].n; i++) {
			struct place p = claims[m].list[i];

			p.member = m;
			if (places_add(&all, &p, err) < 0) {
				places_free(&all);
				return -err->code;
			}
		}
	if (all.n)
		qsort(all.list, all.n, sizeof(*all.list), compare);
	for (size_t i = 0; i < all.n; i++)
		if (n == 0 || strcmp(all.list[n - 1].address[0], all.list[i].address[0]) != 0)
			all.list[n++] = all.list[i];
	all.n = n;
	*ret = all;
	return 0;
}

const struct place *places_find(const struct places *p, const char *address)
{
	size_t len = strcspn(address, "/");

	for (size_t i = 0; i < p->n; i++)
		for (size_t k = 0; k < 2; k++)
			if (strcspn(p->list[i].address[k], "/") == len &&
			    len && !strncmp(p->list[i].address[k], address, len))
				return &p->list[i];
	return NULL;
}
