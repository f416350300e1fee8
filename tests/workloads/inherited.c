/*
 * inherited MB CHILDREN: children that read what their parent had before they were
 * born. Tells what all of them take together: their proportional set sizes.
 */
#include "tests/workloads/region.h"

#define CHILDREN_MAX 8

static struct region memory;
static pid_t children[CHILDREN_MAX];
static size_t n_children;

static bool read_only(void *ctx)
{
	(void)ctx;
	return region_page_holds(&memory, busy_random() % memory.n_pages);
}

static bool read_all(void *ctx)
{
	(void)ctx;
	return region_all(&memory);
}

static void plant(void *ctx, enum plant how)
{
	(void)ctx;
	region_plant(&memory, how);
}

static const struct busy_work reading = { read_only, read_all, plant };

static unsigned long pss_kb(pid_t pid)
{
	char path[64], line[256];
	unsigned long kb = 0;
	FILE *rollup;

	(void)snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	rollup = fopen(path, "re");
	while (rollup && fgets(line, sizeof(line), rollup))
		if (sscanf(line, "Pss: %lu", &kb) == 1)
			break;
	if (rollup)
		(void)fclose(rollup);
	return kb;
}

static bool tell(void)
{
	unsigned long sum = pss_kb(getpid());

	for (size_t i = 0; i < n_children; i++)
		sum += pss_kb(children[i]);
	(void)snprintf(workload_note, sizeof(workload_note), "PSS %lu KB", sum);
	return true;
}

static void workload_setup(int argc, char **argv)
{
	size_t pages = region_argument(argc, argv, 1, 16) * 256;

	n_children = region_argument(argc, argv, 2, 3);
	MUST(n_children <= CHILDREN_MAX);
	busy_init(-1);
	busy_also = tell;
	region_init(&memory, pages, 0, 1);
	region_write_all(&memory);
	for (size_t i = 0; i < n_children; i++)
		children[i] = busy_process(&reading, NULL);
}
