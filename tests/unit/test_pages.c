#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/pages.h"

static void there_and_back(void **state)
{
	static uint8_t block[3 * PAGES_HEAD_BYTES + 2 * PAGES_SIZE];
	const struct pages data = { .kind = PAGES_DATA, .pid = 7, .address = 0x7f0000001000, .n = 2 };
	const struct pages zero = { .kind = PAGES_ZERO, .pid = 7, .address = 0x1000, .n = 1u << 20 };
	const struct pages drop = { .kind = PAGES_DROP, .pid = 9 };
	struct pages p;
	struct error err;
	size_t at = 0;

	(void)state;
	pages_encode_head(&data, block);
	memset(block + PAGES_HEAD_BYTES, 0x5a, 2 * PAGES_SIZE);
	pages_encode_head(&zero, block + PAGES_HEAD_BYTES + 2 * PAGES_SIZE);
	pages_encode_head(&drop, block + 2 * PAGES_HEAD_BYTES + 2 * PAGES_SIZE);
	assert_int_equal(pages_decode(block, sizeof(block), &at, &p, &err), 0);
	assert_int_equal(p.kind, PAGES_DATA);
	assert_int_equal(p.pid, 7);
	assert_true(p.address == data.address && p.n == 2);
	assert_ptr_equal(p.data, block + PAGES_HEAD_BYTES);
	assert_int_equal(pages_decode(block, sizeof(block), &at, &p, &err), 0);
	assert_true(p.kind == PAGES_ZERO && p.address == 0x1000 && p.n == 1u << 20);
	assert_int_equal(pages_decode(block, sizeof(block), &at, &p, &err), 0);
	assert_true(p.kind == PAGES_DROP && p.pid == 9);
	assert_int_equal(pages_decode(block, sizeof(block), &at, &p, &err), 1);
}

/* A record of an object with len bytes of this name in block; its length. */
static size_t put_object(uint8_t *block, const struct pages_object *o)
{
	const struct pages head = { .kind = PAGES_OBJECT, .pid = PAGES_PID_MAX + 3, .address = 12345,
				    .n = pages_encode_object(o, block + PAGES_HEAD_BYTES) };

	pages_encode_head(&head, block);
	return PAGES_HEAD_BYTES + head.n;
}

static void objects_too(void **state)
{
	static const struct pages_object o = { .kind = PAGES_SYSV, .huge_shift = 21, .seals = 3,
					       .inode = 1ull << 40, .name = "a name" };
	static uint8_t block[PAGES_HEAD_BYTES + PAGES_OBJECT_HEAD_BYTES + PAGES_NAME_MAX];
	static struct pages_object got;
	size_t at = 0, len = put_object(block, &o);
	struct pages p;
	struct error err;

	(void)state;
	assert_int_equal(pages_decode(block, len, &at, &p, &err), 0);
	assert_true(pages_is_object(p.pid) && p.address == 12345 && at == len);
	assert_int_equal(pages_decode_object(&p, &got, &err), 0);
	assert_true(got.kind == o.kind && got.huge_shift == 21 && got.seals == 3 && got.inode == o.inode);
	assert_string_equal(got.name, "a name");
	for (size_t cut = 1; cut < len; cut++) {
		at = 0;
		assert_int_equal(pages_decode(block, cut, &at, &p, &err), -EPROTO);
	}
	block[len - 1] = '\0';
	at = 0;
	assert_int_equal(pages_decode(block, len, &at, &p, &err), 0);
	assert_int_equal(pages_decode_object(&p, &got, &err), -EPROTO);
}

static void every_cut_is_seen(void **state)
{
	static uint8_t block[PAGES_HEAD_BYTES + PAGES_SIZE];
	const struct pages data = { .kind = PAGES_DATA, .pid = 1, .address = 0x1000, .n = 1 };
	struct pages p;
	struct error err;

	(void)state;
	pages_encode_head(&data, block);
	for (size_t len = 1; len < sizeof(block); len++) {
		size_t at = 0;

		assert_int_equal(pages_decode(block, len, &at, &p, &err), -EPROTO);
	}
}

static void impossible_ranges_are_refused(void **state)
{
	static const struct pages bad[] = {
		{ .kind = (enum pages_kind)0, .pid = 1, .address = 0x1000, .n = 1 },
		{ .kind = (enum pages_kind)7, .pid = 1, .address = 0x1000, .n = 1 },
		{ .kind = PAGES_OBJECT, .pid = 1, .address = 0x1000, .n = PAGES_OBJECT_HEAD_BYTES },
		{ .kind = PAGES_OBJECT, .pid = PAGES_PID_MAX + 1, .n = PAGES_OBJECT_HEAD_BYTES - 1 },
		{ .kind = PAGES_OBJECT, .pid = PAGES_PID_MAX + 1, .n = UINT64_MAX },
		{ .kind = PAGES_POPULATED, .pid = PAGES_PID_MAX + 1, .address = 0x1000, .n = 1 },
		{ .kind = PAGES_ZERO, .pid = 0, .address = 0x1000, .n = 1 },
		{ .kind = PAGES_ZERO, .pid = UINT32_MAX, .address = 0x1000, .n = 1 },
		{ .kind = PAGES_ZERO, .pid = 1, .address = 0x1001, .n = 1 },
		{ .kind = PAGES_ZERO, .pid = 1, .address = 0x1000, .n = 0 },
		{ .kind = PAGES_ZERO, .pid = 1, .address = 0x1000, .n = UINT64_MAX },
		{ .kind = PAGES_POPULATED, .pid = 1, .address = PAGES_ADDRESS_END, .n = 1 },
		{ .kind = PAGES_POPULATED, .pid = 1, .address = PAGES_ADDRESS_END - PAGES_SIZE, .n = 2 },
		{ .kind = PAGES_DATA, .pid = 1, .address = 0x1000, .n = UINT64_MAX / PAGES_SIZE },
		{ .kind = PAGES_DROP, .pid = 1, .address = 0x1000 },
		{ .kind = PAGES_HASH, .pid = 1, .address = 77, .n = 2 },
	};
	uint8_t block[PAGES_HEAD_BYTES];
	struct pages p;
	struct error err;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		size_t at = 0;

		pages_encode_head(&bad[i], block);
		assert_int_equal(pages_decode(block, sizeof(block), &at, &p, &err), -EPROTO);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(objects_too),
		cmocka_unit_test(every_cut_is_seen),
		cmocka_unit_test(impossible_ranges_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
