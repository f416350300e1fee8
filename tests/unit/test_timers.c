#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "criu-glue/timers.h"

/* A files.img with one timerfd: ticks, what is left, interval (one byte each). */
static size_t make(uint8_t *p, uint8_t ticks, uint8_t left_s, uint8_t left_ns, uint8_t interval_ns)
{
	const uint8_t image[] = {
		0x19, 0x43, 0x56, 0x54, 0x38, 0x31, 0x30, 0x56,		/* magic */
		4, 0, 0, 0, 0x08, 0x02, 0x10, 0x01,			/* some other file */
		24, 0, 0, 0, 0x08, 17, 0x10, 14, 0x62, 18,		/* type, id, timerfd */
		0x08, 14, 0x10, 2, 0x1a, 2, 0x08, 0,			/* id, flags, fown */
		0x28, ticks, 0x38, left_s, 0x40, left_ns, 0x48, 0, 0x50, interval_ns,
	};

	memcpy(p, image, sizeof(image));
	return sizeof(image);
}

static void one(uint8_t ticks, uint8_t left_s, uint8_t left_ns, uint8_t interval_ns, size_t changed)
{
	uint8_t before[64], after[64];
	size_t n, len = make(before, ticks, left_s, left_ns, interval_ns);
	struct error err;

	(void)make(after, ticks, left_s, left_ns, interval_ns);
	assert_int_equal(timers_wake_image(after, len, &n, &err), 0);
	assert_int_equal(n, changed);
	if (changed)
		(void)make(before, ticks, left_s, 1, interval_ns);
	assert_memory_equal(before, after, len);
}

static void only_a_periodic_timer_that_is_due_is_woken(void **state)
{
	(void)state;
	one(1, 0, 0, 50, 1);
	one(1, 0, 0, 0, 0);		/* once, and it has been */
	one(0, 0, 0, 50, 0);		/* disarmed */
	one(1, 3, 0, 50, 0);
	one(1, 0, 7, 50, 0);
}

static void an_image_that_is_damaged_is_refused(void **state)
{
	uint8_t image[64];
	size_t n, len = make(image, 1, 0, 0, 50);
	struct error err;

	(void)state;
	/* At every length but those where a record ends. */
	for (size_t cut = 9; cut < len; cut++) {
		uint8_t copy[64];

		memcpy(copy, image, cut);
		assert_int_equal(timers_wake_image(copy, cut, &n, &err), cut == 16 ? 0 : -EPROTO);
	}
	image[25] = 19;			/* longer than its record */
	assert_int_equal(timers_wake_image(image, len, &n, &err), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_a_periodic_timer_that_is_due_is_woken),
		cmocka_unit_test(an_image_that_is_damaged_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
