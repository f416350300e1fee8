#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "migrate/state.h"

/* state.h's diagram. */
static const char *const legal[MIGRATE_STATE_MAX_] = {
	[MIGRATE_IDLE] = " negotiate",
	[MIGRATE_NEGOTIATE] = " prepare aborting",
	[MIGRATE_PREPARE] = " precopy aborting",
	[MIGRATE_PRECOPY] = " frozen aborting",
	[MIGRATE_FROZEN] = " handover aborting",
	[MIGRATE_HANDOVER] = " done aborting in-doubt",
	[MIGRATE_DONE] = "",
	[MIGRATE_ABORTING] = " rolled-back",
	[MIGRATE_ROLLED_BACK] = "",
	[MIGRATE_IN_DOUBT] = "",
};

static void the_diagram_and_nothing_else(void **state)
{
	(void)state;
	for (unsigned from = 0; from < MIGRATE_STATE_MAX_; from++) {
		char may[128] = "";

		for (unsigned to = 0; to < MIGRATE_STATE_MAX_; to++)
			if (migrate_state_may((enum migrate_state)from, (enum migrate_state)to))
				strcat(strcat(may, " "), migrate_state_name((enum migrate_state)to));
		assert_string_equal(may, legal[from]);
	}
}

static void legal_step_is_taken(void **state)
{
	enum migrate_state s = MIGRATE_FROZEN;

	(void)state;
	migrate_state_set(&s, MIGRATE_HANDOVER);
	assert_int_equal(s, MIGRATE_HANDOVER);
}

static void illegal_step_aborts(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		enum migrate_state s = MIGRATE_DONE;

		(void)!freopen("/dev/null", "w", stderr);
		(void)signal(SIGABRT, SIG_DFL);
		migrate_state_set(&s, MIGRATE_ABORTING);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_diagram_and_nothing_else),
		cmocka_unit_test(legal_step_is_taken),
		cmocka_unit_test(illegal_step_aborts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
