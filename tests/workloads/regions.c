/* regions [MB [THREADS]]: many threads, each with memory of its own. */
#include "tests/workloads/region.h"

static void workload_setup(int argc, char **argv)
{
	size_t pages = region_argument(argc, argv, 1, 4) * 256, threads = region_argument(argc, argv, 2, 8);

	busy_init(-1);
	for (size_t i = 0; i < threads; i++) {
		struct region *r = calloc(1, sizeof(*r));

		MUST(r);
		region_init(r, pages, 0, i);
		region_write_all(r);
		busy_thread(&region_work, r);
	}
}
