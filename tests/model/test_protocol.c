/*
 * The protocol's table and what can come of it: 'test_protocol' runs the tests,
 * 'test_protocol NUMBER' shows how a mutant breaks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/model/mutants.h"

#define ROWS_MAX 64

static void table_is_well_formed(void **state)
{
	(void)state;
	assert_true(protocol_n_rules <= ROWS_MAX);
	for (size_t i = 0; i < protocol_n_rules; i++) {
		const struct protocol_rule *rule = &protocol_rules[i];
		bool said = false;

		/* each state and event once; no side crosses over */
		assert_ptr_equal(protocol_find(protocol_rules, protocol_n_rules, rule->state, rule->event), rule);
		assert_int_equal(rule->state < TARGET_NOTHING, rule->next < TARGET_NOTHING);
		assert_int_equal(rule->state < TARGET_NOTHING, rule->event < EVENT_OFFER);
		assert_int_equal(rule->state < TARGET_NOTHING, rule->by < ACTOR_WORKER);
		for (size_t j = 0; j < PROTOCOL_ROW_ACTIONS && rule->actions[j]; j++) {
			assert_false(said);
			said = protocol_action_is_message(rule->actions[j]);
		}
	}
}

static void everything_has_a_name_and_a_use(void **state)
{
	(void)state;
	for (int a = ACTION_NONE + 1; a < PROTOCOL_ACTION_MAX_; a++) {
		size_t used = 0;

		for (size_t i = 0; i < protocol_n_rules; i++)
			for (size_t j = 0; j < PROTOCOL_ROW_ACTIONS; j++)
				used += protocol_rules[i].actions[j] == (enum protocol_action)a;
		assert_non_null(protocol_action_name((enum protocol_action)a));
		assert_true(used > 0);
	}
	for (int e = 0; e < PROTOCOL_EVENT_MAX_; e++) {
		size_t used = 0;

		for (size_t i = 0; i < protocol_n_rules; i++)
			used += protocol_rules[i].event == (enum protocol_event)e;
		assert_non_null(protocol_event_name((enum protocol_event)e));
		assert_true(used > 0);
	}
	for (int s = 0; s < PROTOCOL_STATE_MAX_; s++)
		assert_non_null(protocol_state_name((enum protocol_state)s));
}

static int count(void *ctx, struct error *err)
{
	(void)err;
	(*(int *)ctx)++;
	return 0;
}

static int break_down(void *ctx, struct error *err)
{
	(void)ctx;
	return error_set(err, EIO, "broken");
}

/* What can't be done leaves the state; what can't be said does not. */
static void step_is_taken_when_all_but_messages_is_done(void **state)
{
	protocol_do does[PROTOCOL_ACTION_MAX_] = { [ACTION_WRITE_DECISION] = count, [ACTION_SEND_COMMIT] = break_down };
	enum protocol_state at = SOURCE_FROZEN;
	struct error err;
	int n = 0;

	(void)state;
	assert_int_equal(protocol_step(&at, EVENT_RESTORED, does, &n, &err), -EIO);
	assert_int_equal(at, SOURCE_DECIDED);
	assert_int_equal(n, 1);
	at = SOURCE_FROZEN;
	does[ACTION_WRITE_DECISION] = break_down;
	does[ACTION_SEND_COMMIT] = count;
	assert_int_equal(protocol_step(&at, EVENT_RESTORED, does, &n, &err), -EIO);
	assert_int_equal(at, SOURCE_FROZEN);
	assert_int_equal(n, 1);
	assert_int_equal(protocol_step(&at, EVENT_TOLD_SYNCED, does, &n, &err), 0);
	assert_int_equal(at, SOURCE_FROZEN);
}

static void only_the_node_that_was_asked_is_heard(void **state)
{
	(void)state;
	for (int o = MESSAGE_OUTCOME_REFUSED; o <= MESSAGE_OUTCOME_LOST; o++)
		assert_int_equal(protocol_told((enum message_outcome)o, false), EVENT_TOLD_BY_STRANGER);
	assert_int_equal(protocol_told(MESSAGE_OUTCOME_REFUSED, true), EVENT_TOLD_REFUSED);
	assert_int_equal(protocol_told(MESSAGE_OUTCOME_RESUMED, true), EVENT_TOLD_RESUMED);
	assert_int_equal(protocol_told(MESSAGE_OUTCOME_SYNCED, true), EVENT_TOLD_SYNCED);
	assert_int_equal(protocol_told(MESSAGE_OUTCOME_LOST, true), EVENT_TOLD_LOST);
}

static void whatever_dies_there_is_one_copy_and_all_settles(void **state)
{
	const struct rules rules = { protocol_rules, protocol_n_rules, false };
	struct explored e = explore(&rules, stderr);

	(void)state;
	printf("%zu worlds, %zu steps between them, %zu of them settled: %s; stuck: %zu\n", e.worlds, e.steps,
	       e.settled, broken_name(e.broken), e.stuck);
	assert_int_equal(e.broken, WHOLE);
	assert_int_equal(e.stuck, 0);
	assert_true(e.worlds > 1000000 && e.settled > 100);
}

static struct explored explore_mutant(const struct mutant *m, FILE *trace)
{
	struct protocol_rule rows[ROWS_MAX];
	const struct rules rules = { rows, protocol_n_rules, m->believes_strangers };

	memcpy(rows, protocol_rules, protocol_n_rules * sizeof(*rows));
	for (size_t i = 0; i < m->n_rows; i++)
		for (size_t j = 0; j < protocol_n_rules; j++)
			if (rows[j].state == m->rows[i].state && rows[j].event == m->rows[i].event)
				rows[j] = m->rows[i];
	return explore(&rules, trace);
}

static void every_mistake_is_found(void **state)
{
	size_t wrong = 0;

	(void)state;
	for (size_t i = 0; i < n_mutants; i++) {
		struct explored e = explore_mutant(&mutants[i], NULL);
		bool good = e.broken == mutants[i].broken && (e.broken || e.stuck);

		printf("%s %zu, %s: %s%s, after %zu worlds\n", good ? "found" : "NOT FOUND", i, mutants[i].name,
		       broken_name(e.broken), e.stuck ? " and does not settle" : "", e.worlds);
		wrong += !good;
	}
	assert_int_equal(wrong, 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table_is_well_formed),
		cmocka_unit_test(everything_has_a_name_and_a_use),
		cmocka_unit_test(step_is_taken_when_all_but_messages_is_done),
		cmocka_unit_test(only_the_node_that_was_asked_is_heard),
		cmocka_unit_test(whatever_dies_there_is_one_copy_and_all_settles),
		cmocka_unit_test(every_mistake_is_found),
	};
	size_t i = argc > 1 ? strtoul(argv[1], NULL, 10) : n_mutants;

	if (i < n_mutants) {
		printf("%s:\n", mutants[i].name);
		(void)explore_mutant(&mutants[i], stdout);
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
