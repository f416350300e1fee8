#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include "migrate/workdir.h"
#include "tests/unit/node_fixture.h"

static void folder_in_memory_that_is_mounted_nowhere(void **state)
{
	CLEANUP(freep) char *before = NULL;
	CLEANUP(freep) char *after = NULL;
	CLEANUP(fd_closep) int dir = -EBADF, images = -EBADF, again = -EBADF;
	struct statfs fs;
	struct error err;

	(void)state;
	OK(fd_read_file_at(-EBADF, "/proc/self/mountinfo", 1 << 20, &before, NULL, &err));
	OK(workdir_create(&dir, &err));
	OK(fd_read_file_at(-EBADF, "/proc/self/mountinfo", 1 << 20, &after, NULL, &err));
	assert_string_equal(before, after);
	assert_int_equal(fcntl(dir, F_GETFD), FD_CLOEXEC);
	OK(workdir_open(dir, "images", &images, &err));
	assert_int_equal(fstatfs(images, &fs), 0);
	assert_int_equal(fs.f_type, TMPFS_MAGIC);
	OK(fd_replace_file_at(images, "x", "y", 1, 0600, FD_REPLACE, &err));
	OK(workdir_open(dir, "images", &again, &err));
	assert_int_equal(faccessat(again, "x", F_OK, 0), 0);
}

/* Its place is told behind the message. */
static void log_outlives_the_folder(void **state)
{
	const struct home *h = *state;
	CLEANUP(container_freep) struct container *c = home_container(h, "web", "", CONTAINER_EXITED);
	CLEANUP(fd_closep) int dir = -EBADF;
	CLEANUP(freep) char *text = NULL;
	struct error err = { .msg = "dump failed" }, other;
	char path[160];

	if (workdir_create(&dir, &other) < 0)
		fail_msg("%s", other.msg);
	workdir_keep_log(dir, "dump.log", c, &err);
	assert_string_equal(err.msg, "dump failed");
	assert_int_equal(fd_replace_file_at(dir, "dump.log", "why", 3, 0600, FD_REPLACE, &other), 0);
	workdir_keep_log(dir, "dump.log", c, &err);
	(void)snprintf(path, sizeof(path), "%s/logs/web-dump.log", h->path);
	assert_non_null(strstr(err.msg, "dump failed; "));
	assert_non_null(strstr(err.msg, path));
	OK(fd_read_file_at(-EBADF, path, 100, &text, NULL, &err));
	assert_string_equal(text, "why");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(folder_in_memory_that_is_mounted_nowhere),
		cmocka_unit_test_setup_teardown(log_outlives_the_folder, home_setup, home_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
