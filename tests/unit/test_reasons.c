/* The list of reasons, as it is filled from both sides and told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "engine/base/cleanup.h"
#include "migrate/admission/reasons.h"

static void more_than_fit_are_dropped(void **state)
{
	struct reasons r = { 0 };

	(void)state;
	for (int i = 0; i < (int)WIRE_REASONS_MAX + 9; i++)
		reasons_add(&r, REASON_DISK_SHORT, "reason %d", i);
	assert_int_equal(r.n, WIRE_REASONS_MAX);
	assert_string_equal(r.list[WIRE_REASONS_MAX - 1].message, "reason 63");
	reasons_free(&r);
	assert_int_equal(r.n, 0);
}

/* Whatever a program calls itself, a verdict can carry it. */
static void any_bytes_can_be_told(void **state)
{
	struct message m = { .type = WIRE_VERDICT, .verdict.node_name = "walrus" };
	CLEANUP(buffer_free) struct buffer bytes = { 0 };
	struct reasons r = { 0 };
	char large[WIRE_LINE_MAX * 2];
	struct error err;

	(void)state;
	memset(large, 'x', sizeof(large) - 1);
	large[sizeof(large) - 1] = '\0';
	reasons_add(&r, REASON_TRACED, "a\033[2Jb\n\xff\xfe");
	reasons_add(&r, REASON_TRACED, "\xc3\xa4 is fine");
	/* cut in the middle of a character */
	reasons_add(&r, REASON_TRACED, "%.*s\xc3\xa4", (int)WIRE_LINE_MAX - 2, large);
	assert_string_equal(r.list[0].message, "a?[2Jb???");
	assert_string_equal(r.list[1].message, "\xc3\xa4 is fine");
	m.verdict.reasons = r.list;
	m.verdict.n_reasons = r.n;
	assert_int_equal(message_encode(&m, &bytes, &err), 0);
	reasons_free(&r);
}

static void both_sides_in_one_list(void **state)
{
	struct message_reason theirs[] = { { "name-taken", "it is there", "rename it" } };
	struct reasons r = { 0 };
	struct error err;

	(void)state;
	reasons_add(&r, REASON_TRACED, "a debugger");
	assert_int_equal(reasons_to_error(&r, &err), -EPERM);
	assert_string_equal(err.msg, "a debugger; detach the debugger (traced)");
	r.n_here = r.n;
	reasons_add_peer(&r, theirs, 1);
	assert_int_equal(r.n, 2);
	assert_string_equal(r.list[1].remedy, "rename it");
	(void)reasons_to_error(&r, &err);
	assert_string_equal(err.msg, "a debugger; detach the debugger (traced), and more reasons");
	reasons_free(&r);
}

static void codes_are_names_and_differ(void **state)
{
	(void)state;
	for (int i = 0; i < REASON_MAX_; i++) {
		assert_non_null(reason_name((enum reason)i));
		for (int k = 0; k < i; k++)
			assert_string_not_equal(reason_name((enum reason)i), reason_name((enum reason)k));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(more_than_fit_are_dropped),
		cmocka_unit_test(any_bytes_can_be_told),
		cmocka_unit_test(both_sides_in_one_list),
		cmocka_unit_test(codes_are_names_and_differ),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
