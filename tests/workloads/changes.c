/* Changes to files of the image: written, removed, replaced folders,
 * modes, owners, times, links; new ones with and without names that are odd. */
#include <sys/xattr.h>

#include "tests/workloads/workload.h"

static int copied;

static void workload_setup(int argc, char **argv)
{
	const struct timespec times[2] = { { .tv_sec = 1000000 }, { .tv_sec = 1234567, .tv_nsec = 89 } };

	(void)argc, (void)argv;
	copied = open("/data/copied", O_RDWR);
	MUST(copied >= 0 && pwrite(copied, "CHANGED", 7, 0) == 7);
	MUST(unlink("/data/removed") == 0);
	/* One of the image can't be renamed on an overlay: EXDEV. One of ours can. */
	MUST(rename("/data/renamed", "/data/now") < 0 && errno == EXDEV);
	MUST(mkdir("/data/before", 0755) == 0 && close(workload_file("/data/before/inside", "inside\n")) == 0);
	MUST(rename("/data/before", "/data/now") == 0);
	/* A folder made anew is opaque: nothing of the image's shines through. */
	MUST(unlink("/data/replaced/old") == 0 && rmdir("/data/replaced") == 0);
	MUST(mkdir("/data/replaced", 0751) == 0 && close(workload_file("/data/replaced/new", "new")) == 0);
	MUST(chmod("/data/mode", 04750) == 0 && lchown("/data/mode", 0, 5) == 0);
	MUST(chmod("/data/mode", 04750) == 0);
	MUST(symlink("/nowhere at all", "/data/link") == 0);
	MUST(link("/data/copied", "/data/hard") == 0);
	MUST(close(workload_file("/data/a \"name\"\nwith \xc3\xa4 and \xff", "odd")) == 0);
	MUST(truncate("/data/sparse", 0) == 0 || close(workload_file("/data/sparse", "")) == 0);
	MUST(truncate("/data/sparse", 1 << 30) == 0);
	MUST(setxattr("/data/mode", "user.mine", "value", 5, 0) == 0);
	MUST(utimensat(AT_FDCWD, "/data/now", times, 0) == 0);
}

static bool has_text(const char *path, const char *text)
{
	int fd = open(path, O_RDONLY);
	bool same = fd >= 0 && workload_file_is(fd, text);

	if (fd >= 0)
		(void)close(fd);
	return same;
}

static bool workload_check(void)
{
	struct stat st, other;
	char value[16];

	HOLDS(workload_file_is(copied, "CHANGED text\n") && has_text("/data/copied", "CHANGED text\n"));
	HOLDS(access("/data/removed", F_OK) < 0 && errno == ENOENT);
	HOLDS(access("/data/before", F_OK) < 0 && has_text("/data/now/inside", "inside\n"));
	HOLDS(stat("/data/now", &st) == 0 && st.st_mtim.tv_sec == 1234567 && st.st_mtim.tv_nsec == 89);
	HOLDS(access("/data/replaced/old", F_OK) < 0 && has_text("/data/replaced/new", "new"));
	HOLDS(stat("/data/replaced", &st) == 0 && (st.st_mode & 07777) == 0751);
	HOLDS(stat("/data/mode", &st) == 0 && (st.st_mode & 07777) == 04750 && st.st_gid == 5);
	HOLDS(getxattr("/data/mode", "user.mine", value, sizeof(value)) == 5 && !memcmp(value, "value", 5));
	HOLDS(readlink("/data/link", value, sizeof(value)) == 15);
	HOLDS(stat("/data/hard", &st) == 0 && fstat(copied, &other) == 0);
	HOLDS(st.st_ino == other.st_ino && st.st_nlink == 2);
	HOLDS(has_text("/data/a \"name\"\nwith \xc3\xa4 and \xff", "odd"));
	HOLDS(stat("/data/sparse", &st) == 0 && st.st_size == 1 << 30 && st.st_blocks < 64);
	HOLDS(has_text("/data/untouched", "untouched\n"));
	return true;
}
