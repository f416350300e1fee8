#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/cleanup.h"
#include "migrate/memory/gaps.h"
#include "migrate/memory/store.h"

static uint64_t gap_end(const struct gap *gap)
{
	return gap->address + gap->n_pages * STORE_PAGE;
}

void gaps_clear(struct gaps *g)
{
	free(g->list);
	*g = (struct gaps){ 0 };
}

static int reserve(struct gaps *g, size_t more, struct error *err)
{
	size_t size = g->size ? g->size : 16;
	struct gap *list;

	if (g->size - g->n >= more)
		return 0;
	while (size - g->n < more)
		size *= 2;
	list = reallocarray(g->list, size, sizeof(*list));
	if (!list)
		return error_set(err, ENOMEM, "no memory for %zu extents of pages", size);
	g->list = list;
	g->size = size;
	return 0;
}

int gaps_append(struct gaps *g, uint64_t address, uint64_t n_pages, uint64_t slot,
		struct error *err)
{
	if (reserve(g, 1, err) < 0)
		return -err->code;
	g->list[g->n++] = (struct gap){ address, n_pages, slot };
	return 0;
}

int gaps_copy(const struct gaps *g, struct gaps *ret, struct error *err)
{
	size_t n = g->n - g->first;
	struct gaps copy = { 0 };

	if (reserve(&copy, n, err) < 0)
		return -err->code;
	if (n)
		memcpy(copy.list, g->list + g->first, n * sizeof(*copy.list));
	copy.n = n;
	*ret = copy;
	return 0;
}

/* The first gap that ends behind address. */
static size_t place_of(const struct gaps *g, uint64_t address)
{
	size_t low = g->first, high = g->n;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (gap_end(&g->list[middle]) <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const struct gap *gaps_find(const struct gaps *g, uint64_t address)
{
	size_t i = place_of(g, address);

	return i < g->n && g->list[i].address <= address ? &g->list[i] : NULL;
}

const struct gap *gaps_first(const struct gaps *g)
{
	return g->first < g->n ? &g->list[g->first] : NULL;
}

/* No gap reaches over address any more. Returns the place of the first behind. */
static int split(struct gaps *g, uint64_t address, size_t *ret, struct error *err)
{
	size_t i = place_of(g, address);
	uint64_t before;

	if (i < g->n && g->list[i].address < address) {
		if (reserve(g, 1, err) < 0)
			return -err->code;
		memmove(&g->list[i + 1], &g->list[i], (g->n - i) * sizeof(*g->list));
		g->n++;
		before = (address - g->list[i].address) / STORE_PAGE;
		g->list[i].n_pages = before;
		i++;
		g->list[i].address = address;
		g->list[i].slot += before;
		g->list[i].n_pages -= before;
	}
	*ret = i;
	return 0;
}

/* Takes list[from], ..., list[to - 1] out. */
static void cut(struct gaps *g, size_t from, size_t to)
{
	if (from == g->first) {
		g->first = to;
		return;
	}
	memmove(&g->list[from], &g->list[to], (g->n - to) * sizeof(*g->list));
	g->n -= to - from;
}

int gaps_remove(struct gaps *g, uint64_t start, uint64_t end, gaps_release_fn release, void *ctx,
		struct error *err)
{
	size_t from, to;

	if (start >= end)
		return 0;
	if (split(g, start, &from, err) < 0 || split(g, end, &to, err) < 0)
		return -err->code;
	for (size_t i = from; i < to; i++)
		release(ctx, g->list[i].slot, g->list[i].n_pages);
	cut(g, from, to);
	return 0;
}

int gaps_move(struct gaps *g, uint64_t from, uint64_t to, uint64_t len, gaps_release_fn release,
	      void *ctx, struct error *err)
{
	CLEANUP(freep) struct gap *moved = NULL;
	size_t start, end, n, place;

	if (split(g, from, &start, err) < 0 || split(g, from + len, &end, err) < 0)
		return -err->code;
	n = end - start;
	moved = malloc((n + 1) * sizeof(*moved));
	if (!moved)
		return error_set(err, ENOMEM, "no memory for %zu extents of pages", n);
	memcpy(moved, &g->list[start], n * sizeof(*moved));
	cut(g, start, end);
	if (gaps_remove(g, to, to + len, release, ctx, err) < 0 ||
	    split(g, to, &place, err) < 0 || reserve(g, n, err) < 0)
		return -err->code;
	memmove(&g->list[place + n], &g->list[place], (g->n - place) * sizeof(*g->list));
	for (size_t i = 0; i < n; i++)
		moved[i].address = moved[i].address - from + to;
	memcpy(&g->list[place], moved, n * sizeof(*moved));
	g->n += n;
	return 0;
}
