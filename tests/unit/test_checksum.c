#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/checksum.h"

/* Of the empty input, as the specification of XXH3 gives it. */
#define XXH3_EMPTY 0x2d06800538d394c2u

static void empty_has_the_known_value(void **state)
{
	CLEANUP(checksum_freep) struct checksum *sum = NULL;
	struct error err;

	(void)state;
	assert_int_equal(checksum_new(&sum, &err), 0);
	assert_true(checksum_value(sum) == XXH3_EMPTY);
	assert_true(checksum_of(0, NULL, 0) == XXH3_EMPTY);
	assert_true(checksum_of(1, NULL, 0) != XXH3_EMPTY);
}

static void pieces_are_as_the_whole(void **state)
{
	CLEANUP(checksum_freep) struct checksum *sum = NULL;
	uint8_t bytes[3000];
	struct error err;

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + i / 256);
	assert_int_equal(checksum_new(&sum, &err), 0);
	for (size_t piece = 1; piece < sizeof(bytes); piece = piece * 3 + 1) {
		checksum_reset(sum);
		for (size_t at = 0; at < sizeof(bytes); at += piece) {
			size_t left = sizeof(bytes) - at;

			checksum_update(sum, bytes + at, left < piece ? left : piece);
			checksum_update(sum, NULL, 0);
		}
		assert_true(checksum_value(sum) == checksum_of(0, bytes, sizeof(bytes)));
		assert_true(checksum_bytes(sum) == sizeof(bytes));
	}
	checksum_update(sum, bytes, 1);
	assert_true(checksum_value(sum) != checksum_of(0, bytes, sizeof(bytes)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty_has_the_known_value),
		cmocka_unit_test(pieces_are_as_the_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
