/*
 * A process tree that keeps forking and exiting: each child verifies the memory
 * as it was when it was born, while its parent goes on changing it, and changes
 * its own copy; so do its own children.
 */
#include "tests/workloads/region.h"

#define PAGES 512
#define CHILDREN 3
#define DEPTH 3

static struct region region;
static int alive;

/* The life of a child; false when something was wrong. */
static bool live(int depth)
{
	bool fine = true;

	for (unsigned int i = 0, n = 2 + busy_random() % 8; fine && i < n; i++) {
		pid_t child = -1;
		int status;

		fine = region_all(&region);
		if (depth < DEPTH && busy_random() % 4 == 0)
			child = fork();
		if (child == 0)
			_exit(live(depth + 1) ? 0 : 1);
		(void)usleep((useconds_t)(busy_random() % 3000));
		fine = fine && region_step(&region);
		if (child > 0)
			fine = waitpid(child, &status, 0) == child && status == 0 && fine;
	}
	return fine && region_all(&region);
}

static bool reap(int how)
{
	int status;
	pid_t pid;

	while (alive > 0 && (pid = waitpid(-1, &status, how)) > 0) {
		alive--;
		if (status != 0)
			return busy_blame("child %d ended with status %#x", pid, (unsigned int)status);
	}
	return true;
}

static bool step(void *ctx)
{
	pid_t pid;

	if (!region_step(ctx))
		return false;
	if (alive < CHILDREN) {
		pid = fork();
		if (pid == 0)
			_exit(live(1) ? 0 : 1);
		BUSY_HOLDS(pid > 0);
		alive++;
	}
	return reap(WNOHANG);
}

static bool all(void *ctx)
{
	return region_all(ctx) && reap(0) && region_all(ctx);
}

static const struct busy_work work = { step, all, region_plant };

static void workload_setup(int argc, char **argv)
{
	(void)argc, (void)argv;
	busy_init(-1);
	region_init(&region, PAGES, 0, 0);
	region_write_all(&region);
	busy_process(&work, &region);
	busy_process(&work, &region);
}
