/*
 * beacon LOG MEGABYTES: appends how far it has counted to a file on a volume, some
 * hundred times a second, and writes it into a file of its own. So a copy that runs
 * beside another, or has gone back, is seen in the log, and files that don't belong
 * to the memory beside them are seen here. Memory has something of its own in each page.
 */
#include "tests/workloads/workload.h"

#define PAGE 4096
#define WORDS (PAGE / sizeof(uint64_t))
#define EVERY 4u

static uint64_t *memory;
static size_t n_pages;
static int records, file;
static uint64_t noted;

static void tell(void)
{
	const uint64_t said[2] = { workload_nonce, workload_count };

	if (workload_count % EVERY)
		return;
	(void)!write(records, said, sizeof(said));
	if (pwrite(file, &workload_count, sizeof(workload_count), 0) == sizeof(workload_count))
		noted = workload_count;
	memory[workload_count / EVERY % n_pages * WORDS + 1] = workload_count;
}

static void workload_setup(int argc, char **argv)
{
	MUST(argc > 2);
	n_pages = strtoul(argv[2], NULL, 10) * 1024 * 1024 / PAGE;
	memory = aligned_alloc(PAGE, n_pages * PAGE);
	MUST(memory && n_pages);
	memset(memory, 0, n_pages * PAGE);
	for (size_t i = 0; i < n_pages; i++)
		memory[i * WORDS] = workload_nonce ^ i;
	records = open(argv[1], O_WRONLY | O_APPEND);
	file = open("/noted", O_RDWR | O_CREAT | O_TRUNC, 0644);
	MUST(records >= 0 && file >= 0);
	workload_tick = tell;
}

static bool workload_check(void)
{
	uint64_t last = workload_count / EVERY, value = 0;

	for (size_t i = 0; i < n_pages; i++)
		if (memory[i * WORDS] != (workload_nonce ^ i))
			return workload_blame("page %zu of %zu is wrong", i, n_pages);
	for (uint64_t at = last > n_pages ? last - n_pages + 1 : 1; at <= last; at++)
		if (memory[at % n_pages * WORDS + 1] != at * EVERY)
			return workload_blame("what was written at %llu is lost", (unsigned long long)at * EVERY);
	if (noted)
		HOLDS(pread(file, &value, sizeof(value), 0) == sizeof(value) && value == noted);
	return true;
}
