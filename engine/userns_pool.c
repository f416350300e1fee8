#include <stdio.h>
#include <string.h>

#include "engine/base/cleanup.h"
#include "engine/base/hash.h"
#include "engine/container.h"
#include "engine/userns_pool.h"

#define PARTS_MAX 64

/* The ids of one kind that containers have, or that may be given out. */
struct ranges {
	struct range { uint64_t first, size; } *list;
	size_t n;
};

static void ranges_free(struct ranges *r)
{
	free(r->list);
}

static int add_range(struct ranges *r, uint64_t first, uint64_t size, struct error *err)
{
	struct range *more = reallocarray(r->list, r->n + 1, sizeof(*more));

	if (!more)
		return error_set(err, ENOMEM, "out of memory");
	r->list = more;
	r->list[r->n++] = (struct range){ first, size };
	return 0;
}

static bool overlaps(const struct ranges *r, uint64_t first, uint64_t size)
{
	for (size_t i = 0; i < r->n; i++)
		if (first < r->list[i].first + r->list[i].size && r->list[i].first < first + size)
			return true;
	return false;
}

/* --- what containers have ---------------------------------------------------------- */

/* Calls fn for each container of the node that has a user namespace, until one is not 0. Which
 * ids one has whose record can't be read nobody knows, so that is an error; one that is gone
 * meanwhile has none. */
static int for_each(const struct node *node, int (*fn)(const struct container *c, void *ctx, struct error *err),
		    void *ctx, struct error *err)
{
	char **names = NULL;
	size_t n = 0;
	int r = container_list(node, &names, &n, err);

	for (size_t i = 0; i < n; i++) {
		CLEANUP(container_freep) struct container *c = NULL;

		if (r == 0)
			r = container_open(node, names[i], &c, err);
		if (r == -ENOENT)
			r = 0;
		else if (r == 0 && userns_is_own(&c->spec->userns))
			r = fn(c, ctx, err);
		free(names[i]);
	}
	free(names);
	return r;
}

struct taken {
	struct ranges uids, gids;
};

static int add_map(struct ranges *r, const struct id_map *map, struct error *err)
{
	for (size_t i = 0; i < map->n; i++)
		if (add_range(r, map->ranges[i].host_id, map->ranges[i].size, err) < 0)
			return -err->code;
	return 0;
}

static int add_container(const struct container *c, void *ctx, struct error *err)
{
	struct taken *t = ctx;

	return add_map(&t->uids, &c->spec->userns.uids, err) < 0 ||
	       add_map(&t->gids, &c->spec->userns.gids, err) < 0 ? -err->code : 0;
}

static int compare(const struct container *c, const char *what, const struct id_map *have, const struct id_map *want,
		   struct error *err)
{
	for (size_t i = 0; i < have->n; i++)
		for (size_t k = 0; k < want->n; k++) {
			const struct id_range *a = &have->ranges[i], *b = &want->ranges[k];

			if ((uint64_t)a->host_id < (uint64_t)b->host_id + b->size &&
			    (uint64_t)b->host_id < (uint64_t)a->host_id + a->size)
				return error_set(err, EADDRINUSE, "%ss %u to %u belong to container '%s' on %s", what,
						 a->host_id, a->host_id + (a->size - 1), c->name,
						 c->node->config.name);
		}
	return 0;
}

static int compare_container(const struct container *c, void *ctx, struct error *err)
{
	const struct userns *u = ctx;

	return compare(c, "uid", &c->spec->userns.uids, &u->uids, err) < 0 ||
	       compare(c, "gid", &c->spec->userns.gids, &u->gids, err) < 0 ? -err->code : 0;
}

int userns_check_free(const struct node *node, const struct userns *u, struct error *err)
{
	return userns_is_own(u) ? for_each(node, compare_container, (void *)(uintptr_t)u, err) : 0;
}

/* --- the pool ---------------------------------------------------------------------- */

/* Lines NAME:FIRST:COUNT; what is not there, or is none, gives nothing. */
static int read_pool(const char *path, struct ranges *ret, struct error *err)
{
	CLEANUP(file_closep) FILE *f = fopen(path, "re");
	unsigned long first, size;
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		if (ret->n < PARTS_MAX && sscanf(line, USERNS_POOL_USER ":%lu:%lu", &first, &size) == 2 &&
		    size >= USERNS_POOL_SIZE && first < ID_NONE && size <= ID_NONE - first &&
		    add_range(ret, first, size, err) < 0)
			return -err->code;
	return ret->n ? 0 : add_range(ret, USERNS_POOL_FIRST, USERNS_POOL_LAST - USERNS_POOL_FIRST + 1ull, err);
}

static uint64_t hash(const struct spec *s)
{
	uint64_t h = hash_add(HASH_START, s->name, strlen(s->name));

	h = hash_add(h, &s->created_us, sizeof(s->created_us));
	return h ^ h >> 32;
}

/* The part number nth of the pool. */
static uint64_t nth_part(const struct ranges *pool, uint64_t nth)
{
	for (size_t i = 0; i < pool->n; i++) {
		uint64_t parts = pool->list[i].size / USERNS_POOL_SIZE;

		if (nth < parts)
			return pool->list[i].first + nth * USERNS_POOL_SIZE;
		nth -= parts;
	}
	return ID_NONE;
}

static int choose(const char *path, const struct ranges *taken, uint64_t from, struct id_map *map, struct error *err)
{
	CLEANUP(ranges_free) struct ranges pool = { 0 };
	uint64_t parts = 0;

	if (read_pool(path, &pool, err) < 0)
		return -err->code;
	for (size_t i = 0; i < pool.n; i++)
		parts += pool.list[i].size / USERNS_POOL_SIZE;
	for (uint64_t i = 0; i < parts; i++) {
		uint64_t first = nth_part(&pool, (from + i) % parts);

		if (!overlaps(taken, first, USERNS_POOL_SIZE))
			return id_map_add(map, 0, first, USERNS_POOL_SIZE, err);
	}
	return error_set(err, ENOSPC, "no %u ids are left of those that %s gives user '%s': remove containers, or "
			 "give it more", USERNS_POOL_SIZE, path, USERNS_POOL_USER);
}

static bool holds(const struct ranges *pool, const struct id_map *map)
{
	for (size_t i = 0; i < map->n; i++) {
		uint64_t first = map->ranges[i].host_id, end = first + map->ranges[i].size;
		bool found = false;

		for (size_t k = 0; k < pool->n; k++)
			found |= first >= pool->list[k].first && end <= pool->list[k].first + pool->list[k].size;
		if (!found)
			return false;
	}
	return true;
}

static int is_of_pool(const struct userns *u, bool *ret, struct error *err)
{
	CLEANUP(ranges_free) struct ranges uids = { 0 }, gids = { 0 };

	if (read_pool("/etc/subuid", &uids, err) < 0 || read_pool("/etc/subgid", &gids, err) < 0)
		return -err->code;
	*ret = holds(&uids, &u->uids) && holds(&gids, &u->gids);
	return 0;
}

int userns_place(const struct node *node, struct spec *s, struct error *err)
{
	bool fits = true;
	int r = userns_check_free(node, &s->userns, err);

	if (!s->userns_auto || (r < 0 && r != -EADDRINUSE))
		return r;
	if (r == 0 && is_of_pool(&s->userns, &fits, err) < 0)
		return -err->code;
	if (r == 0 && fits)
		return 0;
	s->userns = (struct userns){ 0 };
	return userns_choose(node, s, err) < 0 ? -err->code : spec_check_userns(s, err);
}

int userns_choose(const struct node *node, struct spec *s, struct error *err)
{
	struct taken t = { 0 };
	int r = for_each(node, add_container, &t, err);

	if (r == 0)
		r = choose("/etc/subuid", &t.uids, hash(s), &s->userns.uids, err);
	if (r == 0)
		r = choose("/etc/subgid", &t.gids, hash(s), &s->userns.gids, err);
	ranges_free(&t.uids);
	ranges_free(&t.gids);
	return r;
}
