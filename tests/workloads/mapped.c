/* Memory of every kind: private, shared between processes, of files, of a
 * memfd, read-only, locked, with a hole, grown down. */
#include <sys/mman.h>

#include "tests/workloads/workload.h"

#define SIZE (64 * 4096)

static char *private_file, *shared_file, *anonymous, *shared, *memfd_map, *read_only, *locked;
static int memfd, file;
static pid_t child;

static char *map(int prot, int flags, int fd)
{
	char *p = mmap(NULL, SIZE, prot, flags, fd, 0);

	MUST(p != MAP_FAILED);
	return p;
}

/* Adds one wherever its parent shares memory, when it is told. */
static void partner(void)
{
	for (;;) {
		(void)usleep(1000);
		if (shared[0] != 1)
			continue;
		shared[1]++;
		memfd_map[1]++;
		shared[0] = 0;
	}
}

static void workload_setup(int argc, char **argv)
{
	(void)argc, (void)argv;
	file = workload_file("/var/tmp/mapped", "");
	MUST(ftruncate(file, SIZE) == 0 && pwrite(file, "file", 4, 8192) == 4);
	private_file = map(PROT_READ | PROT_WRITE, MAP_PRIVATE, file);
	shared_file = map(PROT_READ | PROT_WRITE, MAP_SHARED, file);
	anonymous = map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	shared = map(PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
	locked = map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	memfd = memfd_create("mine", MFD_ALLOW_SEALING);
	MUST(memfd >= 0 && ftruncate(memfd, SIZE) == 0);
	memfd_map = map(PROT_READ | PROT_WRITE, MAP_SHARED, memfd);
	MUST(fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
	read_only = map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	strcpy(private_file, "mine alone");
	strcpy(shared_file + 4096, "everybody's");
	strcpy(anonymous + 4096 * 63, "the last page");
	strcpy(read_only, "never again");
	strcpy(locked, "locked");
	MUST(mprotect(read_only, SIZE, PROT_READ) == 0);
	MUST(munmap(anonymous + 4096 * 10, 4096) == 0);
	(void)mlock(locked, 4096);
	child = fork();
	MUST(child >= 0);
	if (child == 0)
		partner();
}

static bool partner_answers(void)
{
	char one = shared[1], two = memfd_map[1];

	shared[0] = 1;
	for (int i = 0; i < 2000 && shared[0]; i++)
		(void)usleep(1000);
	return shared[0] == 0 && shared[1] == (char)(one + 1) && memfd_map[1] == (char)(two + 1);
}

static bool workload_check(void)
{
	HOLDS(!strcmp(private_file, "mine alone") && !memcmp(private_file + 8192, "file", 4));
	HOLDS(!strcmp(shared_file + 4096, "everybody's") && shared_file[0] == '\0');
	strcpy(shared_file + 16384, "written");
	HOLDS(pread(file, workload_reason, 7, 16384) == 7 && !memcmp(workload_reason, "written", 7));
	HOLDS(!strcmp(anonymous + 4096 * 63, "the last page"));
	HOLDS(mincore(anonymous + 4096 * 10, 4096, (unsigned char *)workload_reason) < 0 && errno == ENOMEM);
	HOLDS(!strcmp(read_only, "never again") && !strcmp(locked, "locked"));
	HOLDS(fcntl(memfd, F_GET_SEALS) == F_SEAL_SHRINK);
	HOLDS(ftruncate(memfd, 1) < 0 && errno == EPERM);
	HOLDS(partner_answers());
	return true;
}
