#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "engine/base/clock.h"
#include "migrate/timeline.h"

static uint64_t sum(const struct timeline *t)
{
	uint64_t us = 0;

	for (size_t i = 0; i < t->n; i++)
		us += t->steps[i].us;
	return us;
}

static void work(uint64_t us)
{
	for (uint64_t end = clock_us() + us; clock_us() < end;)
		;
}

static void test_all_the_time_is_in_the_steps(void **state)
{
	uint64_t before = clock_us();
	struct timeline t;

	(void)state;
	timeline_begin(&t, clock_us());
	work(200);
	timeline_step(&t, "freeze");
	work(100);
	timeline_step(&t, "dump");
	work(100);
	timeline_step(&t, "freeze");
	assert_int_equal(t.n, 2);
	assert_string_equal(t.steps[0].name, "freeze");
	assert_string_equal(t.steps[1].name, "dump");
	assert_true(t.steps[0].us >= 300 && t.steps[1].us >= 100);
	assert_true(sum(&t) <= clock_us() - before);
	timeline_step(NULL, "nobody wants to know");
}

static void test_what_there_is_no_room_for_counts_with_the_last(void **state)
{
	struct timeline t;
	char name[TIMELINE_NAME];

	(void)state;
	timeline_begin(&t, clock_us());
	for (int i = 0; i < TIMELINE_STEPS + 3; i++) {
		(void)snprintf(name, sizeof(name), "step %d", i);
		work(10);
		timeline_step(&t, name);
	}
	assert_int_equal(t.n, TIMELINE_STEPS);
	assert_true(t.steps[TIMELINE_STEPS - 1].us >= 40);
}

static void test_steps_of_another_process_and_what_is_around_them(void **state)
{
	struct timeline mine, its;

	(void)state;
	timeline_begin(&mine, clock_us());
	work(100);
	timeline_begin(&its, clock_us());
	work(200);
	timeline_step(&its, "criu");
	timeline_append(&mine, &its, "wake-up");
	assert_int_equal(mine.n, 2);
	assert_string_equal(mine.steps[0].name, "wake-up");
	assert_true(mine.steps[0].us >= 100);
	assert_int_equal(mine.steps[1].us, its.steps[0].us);
	/* one that claims more than there was */
	its.steps[0].us = 1000000000;
	timeline_append(&mine, &its, "nothing");
	assert_int_equal(mine.steps[2].us, 0);
}

static void test_there_and_back_in_a_message(void **state)
{
	struct message_step steps[MESSAGE_STEPS_MAX];
	struct timeline t, same;
	size_t n;

	(void)state;
	timeline_begin(&t, clock_us());
	work(50);
	timeline_step(&t, "mounts");
	timeline_step(&t, "tasks");
	n = timeline_to_message(&t, steps);
	timeline_from_message(steps, n, &same);
	assert_int_equal(same.n, 2);
	assert_string_equal(same.steps[1].name, "tasks");
	assert_int_equal(sum(&same), sum(&t));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_the_time_is_in_the_steps),
		cmocka_unit_test(test_what_there_is_no_room_for_counts_with_the_last),
		cmocka_unit_test(test_steps_of_another_process_and_what_is_around_them),
		cmocka_unit_test(test_there_and_back_in_a_message),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
