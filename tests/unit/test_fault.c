#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/cleanup.h"
#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "migrate/fault_list.h"

#ifdef GODWIT_FAULTS

static char folder[] = "/tmp/godwit-fault-XXXXXX";

static const char *path_of(const char *name)
{
	static char path[64];

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static bool there(const char *name)
{
	return access(path_of(name), F_OK) == 0;
}

/* The text is used as long as the fault is set. */
__attribute__((format(printf, 1, 2)))
static int set(const char *fmt, ...)
{
	static char text[1024];
	struct error err = { 0 };
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return fault_init(text, &err);
}

static int make_folder(void **state)
{
	(void)state;
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	struct error err;

	(void)state;
	return fd_remove_tree_at(AT_FDCWD, folder, &err);
}

static int back_to_normal(void **state)
{
	struct error err;

	(void)state;
	fault_role("command");
	return fault_init(NULL, &err);
}

static void nothing_happens_unless_it_is_set(void **state)
{
	struct error err = { .code = 7 };

	(void)state;
	assert_false(fault_armed);
	assert_int_equal(fault_point("token-link", &err), 0);
	assert_int_equal(fault_value("peer-dead-s", 30), 30);
	assert_false(fault_corrupts());
	assert_int_equal(err.code, 7);
}

static void a_point_fails_with_the_given_error(void **state)
{
	struct error err;

	(void)state;
	assert_int_equal(set("other:die, token-link:fail=ENOSPC"), 0);
	assert_int_equal(fault_point("token", &err), 0);
	assert_int_equal(fault_point("token-linked", &err), 0);
	assert_int_equal(fault_point("token-link", &err), -ENOSPC);
	assert_string_equal(err.msg, "token-link: No space left on device");
	assert_int_equal(fault_point_of("token", "link", &err), -ENOSPC);
}

static void what_makes_no_sense_is_refused(void **state)
{
	static const char *const bad[] = {
		"token-link", "token-link:", ":die", "token-link:explode", "token-link:fail",
		"token-link:fail=ENOTHING", "token-link:wait", "token-link:die,token-link",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(set("%s", bad[i]), -EINVAL);
}

static void only_the_named_role_is_hit(void **state)
{
	struct error err;

	(void)state;
	assert_int_equal(set("folder-vanish@monitor:fail=EIO"), 0);
	assert_int_equal(fault_point("folder-vanish", &err), 0);
	fault_role("monitor");
	assert_int_equal(fault_point("folder-vanish", &err), -EIO);
}

static void a_marker_makes_it_happen_once(void **state)
{
	CLEANUP(freep) char *text = NULL;
	char expected[64];
	struct error err;

	(void)state;
	assert_int_equal(set("token-link:fail=EIO:%s", path_of("once")), 0);
	assert_int_equal(fault_point("token-link", &err), -EIO);
	assert_int_equal(fault_point("token-link", &err), 0);
	assert_int_equal(fd_read_file_at(AT_FDCWD, path_of("once"), 100, &text, NULL, &err), 0);
	(void)snprintf(expected, sizeof(expected), "%d command token-link\n", (int)getpid());
	assert_string_equal(text, expected);
}

static void write_text(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void a_file_is_read_each_time(void **state)
{
	struct error err;

	(void)state;
	assert_int_equal(set("@%s", path_of("faults")), 0);
	assert_int_equal(fault_point("token-link", &err), 0);
	write_text(path_of("faults"), "token-sync:die\ntoken-link:fail=EIO\n");
	assert_int_equal(fault_point("token-link", &err), -EIO);
	assert_int_equal(unlink(path_of("faults")), 0);
	assert_int_equal(fault_point("token-link", &err), 0);
}

static void points_are_traced(void **state)
{
	CLEANUP(freep) char *text = NULL;
	char first[5], second[5];
	struct error err;

	(void)state;
	assert_int_equal(set("*:trace:%s,token-sync:fail=EIO", path_of("trace")), 0);
	fault_pass("token-link");
	fault_role("monitor");
	assert_int_equal(fault_point("token-sync", &err), -EIO);
	assert_int_equal(fd_read_file_at(AT_FDCWD, path_of("trace"), 100, &text, NULL, &err), 0);
	assert_int_equal(sscanf(text,
				"%*u %*d command token-%4[a-z]\n%*u %*d monitor token-%4[a-z]", first, second), 2);
	assert_string_equal(first, "link");
	assert_string_equal(second, "sync");
}

static pid_t pass_in_child(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		fault_pass("token-link");
		_exit(3);
	}
	return pid;
}

static int status_of(pid_t pid)
{
	int status = 0;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void it_dies(void **state)
{
	int status;

	(void)state;
	assert_int_equal(set("token-link:die"), 0);
	status = status_of(pass_in_child());
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void it_waits_until_it_may_go_on(void **state)
{
	uint64_t end = clock_us() + 10000000;
	pid_t pid;

	(void)state;
	assert_int_equal(set("token-link:wait:%s", path_of("here")), 0);
	pid = pass_in_child();
	while (!there("here") && clock_us() < end)
		(void)usleep(1000);
	assert_true(there("here"));
	(void)usleep(50000);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	write_text(path_of("here.go"), "");
	assert_int_equal(WEXITSTATUS(status_of(pid)), 3);
}

static void it_hangs(void **state)
{
	pid_t pid;

	(void)state;
	assert_int_equal(set("token-link:hang"), 0);
	pid = pass_in_child();
	(void)usleep(100000);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	(void)status_of(pid);
}

static void values_replace_the_usual_ones(void **state)
{
	struct error err;

	(void)state;
	assert_int_equal(set("peer-dead-s:value=2"), 0);
	assert_int_equal(fault_value("peer-dead-s", 30), 2);
	assert_int_equal(fault_value("memory-hash", 5), 5);
	assert_int_equal(fault_point("peer-dead-s", &err), 0);
}

static void connect_two(int ret[2])
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(listener, (struct sockaddr *)&a, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &len), 0);
	ret[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(ret[0], (struct sockaddr *)&a, len), 0);
	ret[1] = accept(listener, NULL, NULL);
	assert_true(ret[1] >= 0);
	(void)close(listener);
}

static void the_connection_is_reset(void **state)
{
	int fds[2];
	char byte;

	(void)state;
	connect_two(fds);
	assert_int_equal(set("token-link:reset"), 0);
	fault_connection(fds[0]);
	fault_pass("token-link");
	assert_int_equal(recv(fds[1], &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	assert_int_equal(send(fds[0], "x", 1, MSG_NOSIGNAL), -1);
	(void)close(fds[0]);
	(void)close(fds[1]);
}

static void the_connection_is_silently_dead(void **state)
{
	int fds[2];
	struct pollfd p;
	char byte;

	(void)state;
	connect_two(fds);
	assert_int_equal(set("token-link:drop"), 0);
	fault_connection(fds[0]);
	assert_int_equal(send(fds[1], "a", 1, 0), 1);
	assert_int_equal(recv(fds[0], &byte, 1, 0), 1);
	fault_pass("token-link");
	assert_int_equal(send(fds[1], "b", 1, 0), 1);
	p = (struct pollfd){ .fd = fds[0], .events = POLLIN };
	assert_int_equal(poll(&p, 1, 300), 0);
	(void)close(fds[0]);
	(void)close(fds[1]);
}

static void what_is_sent_next_is_corrupt_once(void **state)
{
	(void)state;
	assert_int_equal(set("token-link:corrupt"), 0);
	assert_false(fault_corrupts());
	fault_pass("token-link");
	assert_true(fault_corrupts());
	assert_false(fault_corrupts());
}

struct names {
	char list[400][64];
	size_t n;
};

static void add_name(void *ctx, const struct fault_name *point)
{
	struct names *names = ctx;

	assert_true(names->n < 400);
	for (size_t i = 0; i < names->n; i++)
		assert_string_not_equal(names->list[i], point->name);
	assert_true(point->roles && *point->roles);
	(void)snprintf(names->list[names->n++], 64, "%s", point->name);
}

static void all_points_are_listed_once(void **state)
{
	static const char *const some[] = {
		"source-prepare-begin", "target-restore-end", "source-dump-undo", "send-COMMIT", "received-RESUMED",
		"criu-pre-dump", "handover.json-fsync", "record-dirsync", "token-link",
	};
	struct names names = { .n = 0 };

	(void)state;
	fault_list(add_name, &names);
	for (size_t i = 0; i < sizeof(some) / sizeof(*some); i++) {
		bool found = false;

		for (size_t k = 0; k < names.n; k++)
			found = found || !strcmp(names.list[k], some[i]);
		if (!found)
			fail_msg("%s is not listed", some[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(nothing_happens_unless_it_is_set, back_to_normal),
		cmocka_unit_test_teardown(a_point_fails_with_the_given_error, back_to_normal),
		cmocka_unit_test_teardown(what_makes_no_sense_is_refused, back_to_normal),
		cmocka_unit_test_teardown(only_the_named_role_is_hit, back_to_normal),
		cmocka_unit_test_teardown(a_marker_makes_it_happen_once, back_to_normal),
		cmocka_unit_test_teardown(a_file_is_read_each_time, back_to_normal),
		cmocka_unit_test_teardown(points_are_traced, back_to_normal),
		cmocka_unit_test_teardown(it_dies, back_to_normal),
		cmocka_unit_test_teardown(it_waits_until_it_may_go_on, back_to_normal),
		cmocka_unit_test_teardown(it_hangs, back_to_normal),
		cmocka_unit_test_teardown(values_replace_the_usual_ones, back_to_normal),
		cmocka_unit_test_teardown(the_connection_is_reset, back_to_normal),
		cmocka_unit_test_teardown(the_connection_is_silently_dead, back_to_normal),
		cmocka_unit_test_teardown(what_is_sent_next_is_corrupt_once, back_to_normal),
		cmocka_unit_test(all_points_are_listed_once),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

#else
int main(void)
{
	return 77;
}
#endif
