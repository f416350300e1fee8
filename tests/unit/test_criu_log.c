#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "criu-glue/log.h"
#include "engine/base/cleanup.h"

static const char dump_sample[] =
	"(00.000201) Version: 4.1.1 (gitid 0)\n"
	"(00.001103) Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: "
	"Operation not permitted\n"
	"(00.036112) Dumping task (pid: 4711 comm: server)\n"
	"(00.040001) Warn  (criu/cgroup.c:1): something else\n"
	"(00.040100) Error (criu/files-reg.c:1831): Can't lookup mount=29 for fd=3 path=/tmp/x\n"
	"(00.040211) Error (criu/cr-dump.c:1550): Dump files (pid: 4711) failed with -1\n"
	"(00.041000) Error (criu/cr-dump.c:2093): Dumping FAILED.\n";

static void first_cause_of_dump(void **state)
{
	char line[LOG_LINE_MAX];

	(void)state;
	assert_int_equal(log_decisive_line(dump_sample, line), 0);
	assert_string_equal(line, "Can't lookup mount=29 for fd=3 path=/tmp/x "
				  "(criu/files-reg.c:1831)");
}

static void task_of_restore_speaks(void **state)
{
	char line[LOG_LINE_MAX];

	(void)state;
	assert_int_equal(log_decisive_line(
		"(00.010000)      1: Error (criu/sk-inet.c:1049): inet: Can't bind inet socket "
		"(id 9): Address already in use\n"
		"(00.010100) Error (criu/cr-restore.c:1546): 120 killed by signal 9: Killed\n"
		"(00.010200) Error (criu/cr-restore.c:2320): Restoring FAILED.\n", line), 0);
	assert_string_equal(line, "inet: Can't bind inet socket (id 9): Address already in use "
				  "(criu/sk-inet.c:1049)");
}

static void only_consequences(void **state)
{
	char line[LOG_LINE_MAX];

	(void)state;
	assert_int_equal(log_decisive_line("(00.1) Error (criu/cr-dump.c:2093): Dumping FAILED.\n",
					   line), 0);
	assert_string_equal(line, "Dumping FAILED. (criu/cr-dump.c:2093)");
}

static void no_error_at_all(void **state)
{
	char line[LOG_LINE_MAX] = "x";

	(void)state;
	assert_int_equal(log_decisive_line("(00.000201) Version: 4.1.1\n", line), 1);
	assert_string_equal(line, "");
	assert_int_equal(log_decisive_line("", line), 1);
}

static void hostile_text(void **state)
{
	char line[LOG_LINE_MAX], text[4096];

	(void)state;
	assert_int_equal(log_decisive_line("Error (", line), 0);
	assert_string_equal(line, "");
	assert_int_equal(log_decisive_line("Error (a.c:1): x\033[31m\ty", line), 0);
	assert_string_equal(line, "x?[31m?y (a.c:1)");
	(void)snprintf(text, sizeof(text), "Error (criu/a.c:1): %03000d\n", 7);
	assert_int_equal(log_decisive_line(text, line), 0);
	assert_true(strlen(line) < LOG_LINE_MAX);
	assert_non_null(strstr(line, "(criu/a.c:1)"));
}

static void file_tail(void **state)
{
	CLEANUP(fd_closep) int dir = -EBADF;
	CLEANUP(file_closep) FILE *f = NULL;
	char path[] = "/tmp/godwit-test-XXXXXX", line[LOG_LINE_MAX];
	struct error err;

	(void)state;
	assert_non_null(mkdtemp(path));
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f = fdopen(openat(dir, "dump.log", O_CREAT | O_WRONLY | O_CLOEXEC, 0600), "w");
	assert_non_null(f);
	for (int i = 0; i < 60000; i++)
		assert_true(fprintf(f, "(00.000001) a line of no interest %d\n", i) > 0);
	assert_true(fputs(dump_sample, f) >= 0);
	assert_int_equal(fflush(f), 0);
	assert_int_equal(log_file_decisive_line(dir, "dump.log", line, &err), 0);
	assert_non_null(strstr(line, "Can't lookup mount=29"));
	assert_int_equal(log_file_decisive_line(dir, "absent.log", line, &err), -ENOENT);
	assert_string_equal(line, "");
	assert_int_equal(unlinkat(dir, "dump.log", 0), 0);
	assert_int_equal(rmdir(path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_cause_of_dump),
		cmocka_unit_test(task_of_restore_speaks),
		cmocka_unit_test(only_consequences),
		cmocka_unit_test(no_error_at_all),
		cmocka_unit_test(hostile_text),
		cmocka_unit_test(file_tail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
