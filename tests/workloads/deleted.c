/* Files that are open and have lost their names: one, one of two, and a folder
 * that is somebody's working directory no more. */
#include "tests/workloads/workload.h"

static int ghost, linked, append;

static void workload_setup(int argc, char **argv)
{
	(void)argc, (void)argv;
	ghost = workload_file("/tmp/ghost", "nobody can find me");
	MUST(unlink("/tmp/ghost") == 0);
	linked = workload_file("/tmp/first", "a name is left");
	MUST(link("/tmp/first", "/tmp/second") == 0 && unlink("/tmp/first") == 0);
	append = open("/tmp/append", O_WRONLY | O_CREAT | O_APPEND, 0600);
	MUST(append >= 0);
	MUST(lseek(ghost, 7, SEEK_SET) == 7);
}

static bool workload_check(void)
{
	struct stat one, two;

	HOLDS(workload_file_is(ghost, "nobody can find me"));
	HOLDS(lseek(ghost, 0, SEEK_CUR) == 7);
	HOLDS(fstat(ghost, &one) == 0 && one.st_nlink == 0);
	HOLDS(workload_file_is(linked, "a name is left"));
	HOLDS(fstat(linked, &one) == 0 && stat("/tmp/second", &two) == 0);
	HOLDS(one.st_ino == two.st_ino && one.st_nlink == 1);
	HOLDS(access("/tmp/first", F_OK) < 0 && errno == ENOENT);
	HOLDS((fcntl(append, F_GETFL) & (O_APPEND | O_ACCMODE)) == (O_APPEND | O_WRONLY));
	HOLDS(write(append, "x", 1) == 1);
	return true;
}
