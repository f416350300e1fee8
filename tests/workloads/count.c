/* count [MEGABYTES]: nothing but memory, each page with something of its own. */
#include "tests/workloads/workload.h"

#define PAGE 4096

static uint64_t *memory;
static size_t n_pages;

static uint64_t stamp(size_t page)
{
	return (page + 1) * 0x9e3779b97f4a7c15u ^ workload_nonce;
}

static void workload_setup(int argc, char **argv)
{
	n_pages = (argc > 1 ? strtoul(argv[1], NULL, 10) : 1) * 1024 * 1024 / PAGE;
	memory = aligned_alloc(PAGE, n_pages * PAGE);
	MUST(memory);
	for (size_t i = 0; i < n_pages; i++)
		for (size_t k = 0; k < PAGE / sizeof(*memory); k += 64)
			memory[i * PAGE / sizeof(*memory) + k] = stamp(i) + k;
}

static bool workload_check(void)
{
	for (size_t i = 0; i < n_pages; i++)
		for (size_t k = 0; k < PAGE / sizeof(*memory); k += 64)
			if (memory[i * PAGE / sizeof(*memory) + k] != stamp(i) + k)
				return workload_blame("page %zu of %zu is wrong", i, n_pages);
	return true;
}
