/*
 * Pages that a parent and its children share since they were forked, and of which
 * each child has changed its last eighth. Tells how many of them the parent
 * still shares with somebody: a move may copy them, but not spoil them.
 */
#include "tests/workloads/region.h"

#define PAGES 2048
#define CHILDREN 3
#define PAGEMAP_EXCLUSIVE (1ull << 56)
#define PAGEMAP_PRESENT (1ull << 63)

static struct region region;

static bool parent_holds(void)
{
	uint64_t entries[PAGES];
	unsigned int shared = 0;
	int fd;

	for (size_t i = 0; i < PAGES; i++)
		if (!pattern_holds(region.base + i * PAGE, region_key(&region, i), region.versions[i]))
			return workload_blame("page %zu of the parent is wrong", i);
	fd = open("/proc/self/pagemap", O_RDONLY);
	HOLDS(fd >= 0);
	HOLDS(pread(fd, entries, sizeof(entries), (off_t)((uintptr_t)region.base / PAGE * 8)) ==
	      sizeof(entries));
	(void)close(fd);
	for (size_t i = 0; i < PAGES; i++)
		shared += (entries[i] & PAGEMAP_PRESENT) && !(entries[i] & PAGEMAP_EXCLUSIVE);
	(void)snprintf(workload_note, sizeof(workload_note), "%u of %d pages are shared", shared, PAGES);
	return true;
}

static void workload_setup(int argc, char **argv)
{
	(void)argc, (void)argv;
	busy_init(-1);
	busy_also = parent_holds;
	region_init(&region, PAGES, 0, 0);
	region_write_all(&region);
	region.first = PAGES - PAGES / 8;
	for (int i = 0; i < CHILDREN; i++)
		(void)busy_process(&region_work, &region);
}
