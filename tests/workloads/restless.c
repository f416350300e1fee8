/* restless SEED: a child changes files in /restless in every way, all the time (restless.h). */
#include "tests/workloads/restless.h"
#include "tests/workloads/workload.h"

static pid_t child;

static void workload_setup(int argc, char **argv)
{
	int dir;

	MUST(mkdir("/restless", 0755) == 0 || errno == EEXIST);
	dir = open("/restless", O_RDONLY | O_DIRECTORY);
	MUST(dir >= 0);
	child = restless_start(dir, argc > 1 ? (unsigned)atoi(argv[1]) : 1, true);
	MUST(child > 0);
}

static bool workload_check(void)
{
	return kill(child, 0) == 0 || workload_blame("who changes files is gone");
}
