/* A flock, POSIX record locks and open file description locks, seen by a child. */
#include <sys/file.h>

#include "tests/workloads/workload.h"

static int flocked, record, described;

static void workload_setup(int argc, char **argv)
{
	struct flock part = { .l_type = F_WRLCK, .l_start = 10, .l_len = 5 };

	(void)argc, (void)argv;
	flocked = workload_file("/tmp/flock", "flock");
	record = workload_file("/tmp/record", "a file of some length, at least");
	described = workload_file("/tmp/described", "another one of some length");
	MUST(flock(flocked, LOCK_EX) == 0);
	MUST(fcntl(record, F_SETLK, &part) == 0);
	MUST(fcntl(described, F_OFD_SETLK, &part) == 0);
}

/* What somebody else finds: 0, or the number of the lock that is not there. */
static int look(void)
{
	struct flock part = { .l_type = F_WRLCK, .l_start = 12, .l_len = 1 };
	struct flock beyond = { .l_type = F_WRLCK, .l_start = 15, .l_len = 1 };
	int a = open("/tmp/flock", O_RDWR), b = open("/tmp/record", O_RDWR);
	int c = open("/tmp/described", O_RDWR);

	if (flock(a, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
		return 1;
	if (fcntl(b, F_GETLK, &part) < 0 || part.l_type != F_WRLCK || part.l_pid != getppid())
		return 2;
	if (fcntl(b, F_GETLK, &beyond) < 0 || beyond.l_type != F_UNLCK)
		return 3;
	part = (struct flock){ .l_type = F_WRLCK, .l_start = 12, .l_len = 1 };
	if (fcntl(c, F_OFD_GETLK, &part) < 0 || part.l_type != F_WRLCK || part.l_start != 10)
		return 4;
	return 0;
}

static bool workload_check(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(look());
	HOLDS(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	if (WEXITSTATUS(status))
		return workload_blame("lock %d is gone", WEXITSTATUS(status));
	return true;
}
