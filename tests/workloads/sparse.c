/*
 * sparse [MAPPINGS [HEAP_MB]]: much address space and little in it (64 GB that
 * can't be touched, 64 GB that could be), very many small mappings, a large heap.
 */
#include "tests/workloads/region.h"

#define RESERVED (64ull << 30)
#define ISLANDS 200

static struct region islands[2][ISLANDS];
static struct region heap, mappings;
static unsigned char *open_land;

static size_t far_apart(void)
{
	return (size_t)(busy_random() % (RESERVED / PAGE)) * PAGE;
}

static bool islands_step(void *ctx)
{
	struct region *r = ctx;

	return region_step(&r[busy_random() % ISLANDS]);
}

static bool is_island(const unsigned char *page)
{
	for (int i = 0; i < ISLANDS; i++)
		if (islands[1][i].base == page)
			return true;
	return false;
}

/* Also: where nothing was ever written, nothing is. */
static bool islands_all(void *ctx)
{
	struct region *r = ctx;

	for (int i = 0; i < ISLANDS; i++)
		if (!region_all(&r[i]))
			return false;
	for (int i = 0; i < ISLANDS; i++) {
		unsigned char *page = open_land + far_apart();

		if (!is_island(page) && !busy_page_holds(page, 0, PATTERN_HOLE))
			return false;
	}
	return true;
}

static void islands_plant(void *ctx, enum plant how)
{
	struct region *r = ctx;

	region_plant(&r[busy_random() % ISLANDS], how);
}

static const struct busy_work islands_work = { islands_step, islands_all, islands_plant };

static void start_islands(int which, int protection)
{
	unsigned char *land = mmap(NULL, RESERVED, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
				   -1, 0);

	MUST(land != MAP_FAILED);
	for (size_t i = 0; i < ISLANDS; i++) {
		size_t at = RESERVED / PAGE / ISLANDS * i + busy_random() % 1000;

		MUST(mprotect(land + at * PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
		region_over(&islands[which][i], land + at * PAGE, 1, i);
		region_write_all(&islands[which][i]);
	}
	if (protection != PROT_NONE)
		open_land = land;
	busy_thread(&islands_work, islands[which]);
}

/* Each second page is read-only, so each page is a mapping. */
static bool mappings_step(void *ctx)
{
	struct region *r = ctx;
	size_t page = busy_random() % (r->n_pages / 2) * 2;

	if (!region_page_holds(r, page) || !region_page_holds(r, page + 1))
		return false;
	region_write(r, page);
	return true;
}

static void mappings_plant(void *ctx, enum plant how)
{
	struct region *r = ctx;
	size_t page = busy_random() % (r->n_pages / 2) * 2;

	region_write(r, page);
	pattern_spoil(r->base + page * PAGE, region_key(r, page), r->versions[page], how);
}

static const struct busy_work mappings_work = { mappings_step, region_all, mappings_plant };

static void start_mappings(size_t n)
{
	region_init(&mappings, n, 0, 1000);
	region_write_all(&mappings);
	for (size_t i = 1; i < n; i += 2)
		MUST(mprotect(mappings.base + i * PAGE, PAGE, PROT_READ) == 0);
	busy_thread(&mappings_work, &mappings);
}

static void start_heap(size_t pages)
{
	uintptr_t end = (uintptr_t)sbrk(0);
	char *base;

	MUST(sbrk((intptr_t)(PAGE - end % PAGE)) != (void *)-1);
	base = sbrk((intptr_t)(pages * PAGE));
	MUST(base != (void *)-1 && (uintptr_t)base % PAGE == 0);
	region_over(&heap, base, pages, 2000);
	region_write_all(&heap);
	busy_thread(&region_work, &heap);
}

static void workload_setup(int argc, char **argv)
{
	busy_init(-1);
	start_islands(0, PROT_NONE);
	start_islands(1, PROT_READ | PROT_WRITE);
	start_mappings(region_argument(argc, argv, 1, 20000));
	start_heap(region_argument(argc, argv, 2, 256) * 256);
}
