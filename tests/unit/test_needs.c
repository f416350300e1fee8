/*
 * What a container needs, told at the source and tried at the target; kernels
 * without it are played by a filter that answers ENOSYS.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <seccomp.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/cleanup.h"
#include "migrate/admission/needs.h"

/* The codes, each with a blank before it. */
static const char *codes_of(const char *const *list, size_t n)
{
	static char text[512];
	CLEANUP(reasons_free) struct reasons r = { 0 };

	needs_check(list, n, &r);
	text[0] = '\0';
	for (size_t i = 0; i < r.n; i++)
		strcat(strcat(text, " "), r.list[i].code);
	return text;
}

static const char *code_of(const char *need)
{
	return codes_of(&need, 1);
}

static void what_this_process_needs_is_here(void **state)
{
	CLEANUP(needs_free) struct needs needs = { 0 };
	pid_t self = getpid();
	struct error err;
	bool nofile = false;

	(void)state;
	assert_int_equal(needs_collect(&self, 1, &needs, &err), 0);
	assert_true(needs.n > 4);
	for (size_t i = 0; i < needs.n; i++)
		nofile |= !strncmp(needs.list[i], "rlimit-nofile=", 14);
	assert_true(nofile);
	assert_string_equal(codes_of((const char *const *)needs.list, needs.n), "");
}

static void what_nobody_knows_is_not_promised(void **state)
{
	(void)state;
	assert_string_equal(code_of("time-machine"), " need-unknown");
	assert_string_equal(code_of("rlimit-patience=7"), " need-unknown");
	assert_string_equal(code_of("rlimit-nofile=many"), " need-unknown");
	assert_string_equal(code_of("rlimit-nofile"), " need-unknown");
	assert_string_equal(code_of("userfaultfd=1"), " need-unknown");
	assert_string_equal(code_of("="), " need-unknown");
}

static void limits_that_are_too_high(void **state)
{
	(void)state;
	assert_string_equal(code_of("rlimit-nofile=1"), "");
	assert_string_equal(code_of("rlimit-nofile=unlimited"), " rlimit-short");
	assert_string_equal(code_of("rlimit-nofile=99999999999999"), " rlimit-short");
}

static void deny(int call)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);

	if (!ctx || seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), call, 0) < 0 || seccomp_load(ctx) < 0)
		_exit(9);
	seccomp_release(ctx);
}

static void kernel_without_it(void **state)
{
	static const struct {
		int call;
		const char *need;
	} cases[] = { { SCMP_SYS(userfaultfd), "userfaultfd" }, { SCMP_SYS(fsopen), "overlay" } };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0) {
			deny(cases[i].call);
			_exit(strcmp(code_of(cases[i].need), " kernel-feature") != 0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
		assert_string_equal(code_of(cases[i].need), "");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_this_process_needs_is_here),
		cmocka_unit_test(what_nobody_knows_is_not_promised),
		cmocka_unit_test(limits_that_are_too_high),
		cmocka_unit_test(kernel_without_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
