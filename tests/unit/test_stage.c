#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "migrate/source.h"
#include "migrate/stage.h"
#include "migrate/target.h"

/* A table whose rows write down that they ran. */
static char trace[256];
static int fail_at, fail_code;

static int run_row(int row, struct error *err)
{
	(void)sprintf(trace + strlen(trace), " %d", row);
	return row == fail_at ? error_set(err, fail_code, "broken") : 0;
}

static void undo_row(int row)
{
	(void)sprintf(trace + strlen(trace), " -%d", row);
}

#define ROW(n)									\
	static int source_##n(struct source *s, struct error *err)		\
	{									\
		(void)s;							\
		return run_row(n, err);						\
	}									\
	static int target_##n(struct target *t, struct error *err)		\
	{									\
		(void)t;							\
		return run_row(n, err);						\
	}									\
	static void undo_source_##n(struct source *s)				\
	{									\
		(void)s;							\
		undo_row(n);							\
	}									\
	static void undo_target_##n(struct target *t)				\
	{									\
		(void)t;							\
		undo_row(n);							\
	}									\
	struct row_##n			/* takes the semicolon */

ROW(0);
ROW(1);
ROW(2);
ROW(3);
ROW(4);
ROW(5);
ROW(6);
ROW(7);
ROW(8);

#define USE(n, name, state) { name, state, source_##n, target_##n, undo_source_##n, undo_target_##n }

static const struct migrate_stage table[STAGE_MAX_] = {
	[STAGE_NEGOTIATE] = USE(0, "negotiate", MIGRATE_NEGOTIATE),
	[STAGE_PREPARE] = USE(1, "prepare", MIGRATE_PREPARE),
	[STAGE_PRECOPY] = USE(2, "precopy", MIGRATE_PRECOPY),
	[STAGE_DUMP] = USE(3, "dump", MIGRATE_FROZEN),
	[STAGE_TRANSFER] = USE(4, "transfer", MIGRATE_FROZEN),
	[STAGE_RESTORE] = USE(5, "restore", MIGRATE_FROZEN),
	[STAGE_COMMIT] = USE(6, "commit", MIGRATE_HANDOVER),
	[STAGE_SYNC] = USE(7, "sync", MIGRATE_HANDOVER),
	[STAGE_RELEASE] = USE(8, "release", MIGRATE_HANDOVER),
};

static int run_source(int at, int code, enum migrate_state *ret, struct error *err)
{
	struct source s = { 0 };
	uint64_t times[STAGE_MAX_];

	trace[0] = '\0';
	fail_at = at;
	fail_code = code;
	*ret = MIGRATE_IDLE;
	return stage_run_source(table, &s, ret, times, NULL, err);
}

static void all_rows_in_order(void **state)
{
	struct target t = { 0 };
	enum migrate_state end;
	struct error err;

	(void)state;
	assert_int_equal(run_source(-1, 0, &end, &err), 0);
	assert_string_equal(trace, " 0 1 2 3 4 5 6 7 8");
	assert_int_equal(end, MIGRATE_DONE);
	trace[0] = '\0';
	assert_int_equal(stage_run_target(table, &t, &err), 0);
	assert_string_equal(trace, " 0 1 2 3 4 5 6 7 8");
}

static void failure_before_the_decision_undoes_bottom_up(void **state)
{
	static const char *const expected[] = {
		" 0 -0", " 0 1 -1 -0", " 0 1 2 -2 -1 -0", " 0 1 2 3 -3 -2 -1 -0",
		" 0 1 2 3 4 -4 -3 -2 -1 -0", " 0 1 2 3 4 5 -5 -4 -3 -2 -1 -0",
	};
	enum migrate_state end;
	struct error err;

	(void)state;
	for (int at = 0; at < STAGE_COMMIT; at++) {
		assert_int_equal(run_source(at, EPROTO, &end, &err), -EPROTO);
		assert_string_equal(trace, expected[at]);
		assert_int_equal(end, MIGRATE_ROLLED_BACK);
		assert_int_equal(strncmp(err.msg, table[at].name, strlen(table[at].name)), 0);
	}
}

static void after_the_decision_only_the_target_undoes(void **state)
{
	enum migrate_state end;
	struct error err;

	(void)state;
	assert_int_equal(run_source(STAGE_COMMIT, ECONNRESET, &end, &err), -ECONNRESET);
	assert_string_equal(trace, " 0 1 2 3 4 5 6");
	assert_int_equal(end, MIGRATE_IN_DOUBT);
	assert_int_equal(run_source(STAGE_COMMIT, ECANCELED, &end, &err), -ECANCELED);
	assert_string_equal(trace, " 0 1 2 3 4 5 6 -6 -5 -4 -3 -2 -1 -0");
	assert_int_equal(end, MIGRATE_ROLLED_BACK);
	assert_int_equal(run_source(STAGE_SYNC, ECONNRESET, &end, &err), -ECONNRESET);
	assert_string_equal(trace, " 0 1 2 3 4 5 6 7");
	assert_int_equal(end, MIGRATE_IN_DOUBT);
	assert_int_equal(run_source(STAGE_SYNC, ECANCELED, &end, &err), -ECANCELED);
	assert_string_equal(trace, " 0 1 2 3 4 5 6 7 -7 -6 -5 -4 -3 -2 -1 -0");
	assert_int_equal(end, MIGRATE_ROLLED_BACK);
}

/* Then it is on disk there: thawing the original would make two. */
static void nothing_undoes_a_release(void **state)
{
	enum migrate_state end;
	struct error err;

	(void)state;
	for (const int *code = (const int[]){ ECANCELED, EIO, 0 }; *code; code++) {
		assert_int_equal(run_source(STAGE_RELEASE, *code, &end, &err), -*code);
		assert_string_equal(trace, " 0 1 2 3 4 5 6 7 8");
		assert_int_equal(end, MIGRATE_IN_DOUBT);
	}
}

static void target_keeps_what_it_has_resumed(void **state)
{
	struct target t = { 0 };
	struct error err;

	(void)state;
	trace[0] = '\0';
	fail_at = STAGE_COMMIT;
	fail_code = EIO;
	assert_int_equal(stage_run_target(table, &t, &err), -EIO);
	assert_string_equal(trace, " 0 1 2 3 4 5 6 -6 -5 -4 -3 -2 -1 -0");
	trace[0] = '\0';
	fail_at = STAGE_RELEASE;
	assert_int_equal(stage_run_target(table, &t, &err), -EIO);
	assert_string_equal(trace, " 0 1 2 3 4 5 6 7 8");
}

static void the_real_table_is_complete(void **state)
{
	enum migrate_state s = MIGRATE_IDLE;

	(void)state;
	for (int row = 0; row < STAGE_MAX_; row++) {
		const struct migrate_stage *m = &migrate_stages[row];

		assert_true(m->name && m->source && (m->target || row == STAGE_DUMP));
		assert_true(m->state == s || migrate_state_may(s, m->state));
		s = m->state;
	}
	assert_true(migrate_state_may(s, MIGRATE_DONE));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_rows_in_order),
		cmocka_unit_test(failure_before_the_decision_undoes_bottom_up),
		cmocka_unit_test(after_the_decision_only_the_target_undoes),
		cmocka_unit_test(nothing_undoes_a_release),
		cmocka_unit_test(target_keeps_what_it_has_resumed),
		cmocka_unit_test(the_real_table_is_complete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
