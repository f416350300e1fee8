/*
 * region.h - pages with versions, of one owner who verifies and rewrites them
 *
 * The versions are in other memory than the pages, and their sum in yet another
 * place, so what went back in time contradicts something that did not.
 */
#pragma once

#include "tests/workloads/busy.h"

#define REGION_BURST 16

struct region {
	unsigned char *base;
	size_t n_pages;
	size_t first, end;	/* those that may be changed */
	uint64_t key;
	uint32_t *versions;
	uint64_t total;		/* sum of all versions */
};

static void region_over(struct region *r, void *base, size_t n_pages, uint64_t key)
{
	*r = (struct region){ .base = base, .n_pages = n_pages, .end = n_pages,
			      .key = workload_nonce + (key << 40) };
	r->versions = calloc(n_pages, sizeof(*r->versions));
	MUST(r->versions);
}

__attribute__((unused))
static void region_init(struct region *r, size_t n_pages, int flags, uint64_t key)
{
	void *base = mmap(NULL, n_pages * PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	MUST(base != MAP_FAILED);
	region_over(r, base, n_pages, key);
}

static uint64_t region_key(const struct region *r, size_t page)
{
	return r->key + page;
}

static void region_write(struct region *r, size_t page)
{
	r->total++;
	pattern_fill(r->base + page * PAGE, region_key(r, page), ++r->versions[page]);
}

static bool region_page_holds(const struct region *r, size_t page)
{
	return busy_page_holds(r->base + page * PAGE, region_key(r, page), r->versions[page]);
}

__attribute__((unused)) static void region_write_all(struct region *r)
{
	for (size_t i = r->first; i < r->end; i++)
		region_write(r, i);
}

static bool region_step(void *ctx)
{
	struct region *r = ctx;

	for (int i = 0; i < REGION_BURST; i++) {
		size_t page = r->first + busy_random() % (r->end - r->first);

		if (!region_page_holds(r, page) || !region_page_holds(r, busy_random() % r->n_pages))
			return false;
		region_write(r, page);
	}
	return true;
}

static bool region_all(void *ctx)
{
	const struct region *r = ctx;
	uint64_t total = 0;

	for (size_t i = 0; i < r->n_pages; i++) {
		if (!region_page_holds(r, i))
			return false;
		total += r->versions[i];
	}
	BUSY_HOLDS(total == r->total);
	return true;
}

static void region_plant(void *ctx, enum plant how)
{
	struct region *r = ctx;
	size_t page = r->first + busy_random() % (r->end - r->first);

	region_write(r, page);
	pattern_spoil(r->base + page * PAGE, region_key(r, page), r->versions[page], how);
}

__attribute__((unused))
static const struct busy_work region_work = { region_step, region_all, region_plant };

/* The argument of that number, or what is usual. */
__attribute__((unused))
static size_t region_argument(int argc, char **argv, int which, size_t usual)
{
	return argc > which ? strtoul(argv[which], NULL, 10) : usual;
}
