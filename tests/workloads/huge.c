/*
 * Huge pages: transparent ones that are wanted, and hugetlb ones, private and
 * shared, where the machine has some. Tells how much is huge.
 */
#include "tests/workloads/region.h"

#define HUGE (2u << 20)
#define THP_PAGES (8 * HUGE / PAGE)

static struct region transparent, private_huge, shared_huge;
static const char *without = "";

static unsigned long sum_kb(const char *key)
{
	FILE *smaps = fopen("/proc/self/smaps_rollup", "re");
	unsigned long kb, sum = 0;
	char line[256];

	while (smaps && fgets(line, sizeof(line), smaps))
		if (!strncmp(line, key, strlen(key)) && sscanf(line + strlen(key), ": %lu", &kb) == 1)
			sum += kb;
	if (smaps)
		(void)fclose(smaps);
	return sum;
}

static bool tell(void)
{
	(void)snprintf(workload_note, sizeof(workload_note), "THP %lu KB, hugetlb %lu KB%s",
		       sum_kb("AnonHugePages"), sum_kb("Private_Hugetlb") + sum_kb("Shared_Hugetlb"), without);
	return true;
}

static void start_thp(void)
{
	size_t size = THP_PAGES * PAGE;
	char *room = mmap(NULL, size + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *aligned = room + (HUGE - (uintptr_t)room % HUGE) % HUGE;

	MUST(room != MAP_FAILED);
	if (madvise(aligned, size, MADV_HUGEPAGE) < 0)
		without = " (this kernel has no THP)";
	region_over(&transparent, aligned, THP_PAGES, 0);
	region_write_all(&transparent);
	busy_thread(&region_work, &transparent);
}

static void start_hugetlb(struct region *r, int flags, uint64_t key)
{
	void *base = mmap(NULL, HUGE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);

	if (base == MAP_FAILED) {
		without = " (no hugetlb: this machine has no free huge pages)";
		return;
	}
	region_over(r, base, HUGE / PAGE, key);
	region_write_all(r);
	busy_thread(&region_work, r);
}

static void workload_setup(int argc, char **argv)
{
	busy_init(-1);
	busy_also = tell;
	start_thp();
	if (argc > 1 && !strcmp(argv[1], "hugetlb")) {
		start_hugetlb(&private_huge, MAP_PRIVATE, 1);
		start_hugetlb(&shared_huge, MAP_SHARED, 2);
	}
}
