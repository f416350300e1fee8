#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "proto/held.h"

static size_t put(uint8_t *block, size_t at, uint32_t len, uint32_t gso)
{
	const struct held h = { .len = len, .gso_bytes = gso };

	held_encode_head(&h, block + at);
	return at + HELD_HEAD_BYTES;
}

static void there_and_back(void **state)
{
	uint8_t block[2 * HELD_HEAD_BYTES + 60 + 14] = { 0 };
	struct held h;
	struct error err;
	size_t at = 0;

	(void)state;
	memset(block + put(block, 0, 60, 20), 0x5a, 60);
	(void)put(block, HELD_HEAD_BYTES + 60, 14, 0);
	assert_int_equal(held_decode(block, sizeof(block), &at, &h, &err), 0);
	assert_true(h.len == 60 && h.gso_bytes == 20 && h.data == block + HELD_HEAD_BYTES);
	assert_int_equal(held_decode(block, sizeof(block), &at, &h, &err), 0);
	assert_true(h.len == 14 && h.gso_bytes == 0);
	assert_int_equal(held_decode(block, sizeof(block), &at, &h, &err), 1);
}

static void bad_lengths_are_refused(void **state)
{
	static const uint32_t bad[][2] = { { 0, 0 }, { 13, 0 }, { 61, 0 }, { UINT32_MAX, 0 }, { 60, 61 } };
	uint8_t block[HELD_HEAD_BYTES + 60] = { 0 };
	struct held h;
	struct error err;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		size_t at = 0;

		(void)put(block, 0, bad[i][0], bad[i][1]);
		assert_int_equal(held_decode(block, sizeof(block), &at, &h, &err), -EPROTO);
	}
	for (size_t len = 1; len < sizeof(block); len++) {
		size_t at = 0;

		(void)put(block, 0, 60, 0);
		assert_int_equal(held_decode(block, len, &at, &h, &err), -EPROTO);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(bad_lengths_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
