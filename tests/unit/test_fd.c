#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"

static int scratch(void)
{
	char path[] = "/tmp/godwit-test-XXXXXX";
	int fd;

	assert_non_null(mkdtemp(path));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(setenv("SCRATCH", path, 1), 0);
	return fd;
}

static void drop_scratch(void)
{
	struct error err;

	assert_int_equal(fd_remove_tree_at(AT_FDCWD, getenv("SCRATCH"), &err), 0);
	assert_int_equal(access(getenv("SCRATCH"), F_OK), -1);
}

static void replace_and_read(void **state)
{
	CLEANUP(fd_closep) int dir = scratch();
	CLEANUP(freep) char *text = NULL;
	struct error err;
	size_t len;

	(void)state;
	assert_int_equal(fd_replace_file_at(dir, "a", "one", 3, 0600, FD_REPLACE, &err), 0);
	assert_int_equal(fd_replace_file_at(dir, "a", "three", 5, 0600, FD_REPLACE_DURABLE, &err), 0);
	assert_int_equal(fd_read_file_at(dir, "a", 100, &text, &len, &err), 0);
	assert_int_equal(len, 5);
	assert_string_equal(text, "three");
	assert_int_equal(fd_read_file_at(dir, "a", 4, &text, &len, &err), -EFBIG);
	assert_int_equal(fd_read_file_at(dir, "b", 4, &text, &len, &err), -ENOENT);
	drop_scratch();
}

static void removes_a_tree_but_follows_no_symlink(void **state)
{
	CLEANUP(fd_closep) int dir = scratch();
	struct error err;

	(void)state;
	assert_int_equal(fd_replace_file_at(dir, "keep", "x", 1, 0600, FD_REPLACE, &err), 0);
	assert_int_equal(mkdirat(dir, "t", 0700), 0);
	assert_int_equal(mkdirat(dir, "t/u", 0700), 0);
	assert_int_equal(symlinkat("../../keep", dir, "t/u/link"), 0);
	assert_int_equal(symlinkat("..", dir, "t/up"), 0);
	assert_int_equal(fd_remove_tree_at(dir, "t", &err), 0);
	assert_int_equal(faccessat(dir, "t", F_OK, 0), -1);
	assert_int_equal(faccessat(dir, "keep", F_OK, 0), 0);
	assert_int_equal(fd_remove_tree_at(dir, "not-there", &err), 0);
	drop_scratch();
}

static void descriptors_travel(void **state)
{
	CLEANUP(fd_closep) int dir = scratch();
	int pair[2], got[2];
	char buf[8];
	struct error err;
	struct stat a, b;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(fd_send_msg(pair[0], "hi", 2, &dir, 1, &err), 0);
	assert_int_equal(fd_recv_msg(pair[1], buf, sizeof(buf), got, 2, &err), 2);
	assert_true(got[0] >= 0);
	assert_int_equal(got[1], -EBADF);
	assert_int_equal(fcntl(got[0], F_GETFD), FD_CLOEXEC);
	assert_int_equal(fstat(dir, &a), 0);
	assert_int_equal(fstat(got[0], &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	fd_close(&pair[0]);
	assert_int_equal(fd_recv_msg(pair[1], buf, sizeof(buf), NULL, 0, &err), 0);
	fd_close(&pair[1]);
	fd_close(&got[0]);
	drop_scratch();
}

static void short_input_is_told_apart(void **state)
{
	int pipe_fds[2];
	char buf[4];
	struct error err;

	(void)state;
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	assert_int_equal(fd_write_full(pipe_fds[1], "ab", 2, &err), 0);
	fd_close(&pipe_fds[1]);
	assert_int_equal(fd_read_full(pipe_fds[0], buf, 4, &err), -EPROTO);
	assert_int_equal(fd_read_full(pipe_fds[0], buf, 4, &err), -ENODATA);
	fd_close(&pipe_fds[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(replace_and_read),
		cmocka_unit_test(removes_a_tree_but_follows_no_symlink),
		cmocka_unit_test(descriptors_travel),
		cmocka_unit_test(short_input_is_told_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
