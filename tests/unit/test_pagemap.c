#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "criu-glue/pagemap.h"
#include "engine/base/cleanup.h"

/* Magic pair and head {1: 1}. */
#define HEAD "\x19\x43\x56\x54\x25\x40\x08\x56\x02\0\0\0\x08\x01"

/* As CRIU 4.1 wrote it: two pages at 0x400000, present and lazy; one at
 * 0x7ffc00000000, present. */
#define OLD_1 "\x09\0\0\0\x08\x80\x80\x80\x02\x10\x02\x20\x06"
#define OLD_2 "\x0c\0\0\0\x08\x80\x80\x80\x80\xc0\xff\x1f\x10\x01\x20\x04"

/* The same of CRIU 4.2, without the lazy bit. */
#define NEW_1 "\x0b\0\0\0\x08\x80\x80\x80\x02\x10\x02\x20\x04\x28\x02"
#define NEW_2 "\x0e\0\0\0\x08\x80\x80\x80\x80\xc0\xff\x1f\x10\x01\x20\x04\x28\x01"

#define BYTES(text) text, sizeof(text) - 1

static void expect(const char *image, size_t len, const struct pagemap_range *lazy, size_t n,
		   const char *wanted, size_t wanted_len)
{
	CLEANUP(freep) void *made = NULL;
	struct error err;
	size_t made_len;

	if (pagemap_merge(image, len, lazy, n, &made, &made_len, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(made_len, wanted_len);
	assert_memory_equal(made, wanted, made_len);
}

static void refuse(const char *image, size_t len, const struct pagemap_range *lazy, size_t n,
		   const char *why)
{
	CLEANUP(freep) void *made = NULL;
	struct error err;
	size_t made_len;

	assert_int_equal(pagemap_merge(image, len, lazy, n, &made, &made_len, &err), -EPROTO);
	assert_null(made);
	if (!strstr(err.msg, why))
		fail_msg("%s: expected %s", err.msg, why);
}

static void either_version(void **state)
{
	(void)state;
	expect(BYTES(HEAD OLD_1 OLD_2), NULL, 0, BYTES(HEAD NEW_1 NEW_2));
	expect(BYTES(HEAD NEW_1 NEW_2), NULL, 0, BYTES(HEAD NEW_1 NEW_2));
	expect(BYTES(HEAD), NULL, 0, BYTES(HEAD));
}

static void before_between_behind(void **state)
{
	static const struct pagemap_range lazy[] = {
		{ 0x1000, 1 }, { 0x402000, 3 }, { 0x7ffc00001000, 200 },
	};
	static const char wanted[] = HEAD
		"\x09\0\0\0\x08\x80\x20\x10\x01\x20\x02\x28\x01" NEW_1
		"\x0b\0\0\0\x08\x80\xc0\x80\x02\x10\x03\x20\x02\x28\x03" NEW_2
		"\x10\0\0\0\x08\x80\xa0\x80\x80\xc0\xff\x1f\x10\xc8\x01\x20\x02\x28\xc8\x01";

	(void)state;
	expect(BYTES(HEAD OLD_1 OLD_2), lazy, 3, BYTES(wanted));
}

static void neighbours(void **state)
{
	static const struct pagemap_range lazy[] = { { 0x1000, 1 }, { 0x2000, 2 }, { 0x5000, 1 } };
	static const char wanted[] = HEAD "\x09\0\0\0\x08\x80\x20\x10\x03\x20\x02\x28\x03"
					  "\x0a\0\0\0\x08\x80\xa0\x01\x10\x01\x20\x02\x28\x01";

	(void)state;
	expect(BYTES(HEAD), lazy, 3, BYTES(wanted));
}

/* What complete asked for, in words. */
static char asked[256];

static int ask(void *ctx, bool from_image, uint64_t address, uint64_t n_pages, struct error *err)
{
	size_t len = strlen(asked);

	(void)ctx;
	(void)err;
	(void)snprintf(asked + len, sizeof(asked) - len, "%s%llx+%llu ", from_image ? "" : "!",
		       (unsigned long long)address, (unsigned long long)n_pages);
	return 0;
}

static int refuse_pages(void *ctx, bool from_image, uint64_t address, uint64_t n_pages, struct error *err)
{
	(void)ctx;
	(void)from_image;
	(void)address;
	(void)n_pages;
	return error_set(err, ENOSPC, "full");
}

static void complete(void **state)
{
	static const struct pagemap_range ranges[] = {
		{ 0x1000, 1 }, { 0x402000, 3 }, { 0x7ffc00001000, 200 },
	};
	/* neighbours of CRIU's own pages are one with them now */
	static const char wanted[] = HEAD
		"\x09\0\0\0\x08\x80\x20\x10\x01\x20\x04\x28\x01"
		"\x0b\0\0\0\x08\x80\x80\x80\x02\x10\x05\x20\x04\x28\x05"
		"\x10\0\0\0\x08\x80\x80\x80\x80\xc0\xff\x1f\x10\xc9\x01\x20\x04\x28\xc9\x01";
	CLEANUP(freep) void *made = NULL;
	struct error err;
	uint32_t id;
	size_t len;

	(void)state;
	asked[0] = '\0';
	assert_int_equal(pagemap_complete(BYTES(HEAD OLD_1 OLD_2), ranges, 3, ask, NULL, &made, &len, &err), 0);
	assert_string_equal(asked, "!1000+1 400000+2 !402000+3 7ffc00000000+1 !7ffc00001000+200 ");
	assert_int_equal(len, sizeof(wanted) - 1);
	assert_memory_equal(made, wanted, len);
	assert_int_equal(pagemap_pages_id(made, len, &id, &err), 0);
	assert_int_equal(id, 1);
	free(TAKE_PTR(made));
	assert_int_equal(pagemap_complete(BYTES(HEAD), ranges, 3, refuse_pages, NULL, &made, &len, &err), -ENOSPC);
	/* in the parent's image, and in none */
	assert_int_equal(pagemap_complete(BYTES(HEAD "\x0b\0\0\0\x08\x80\x80\x80\x02\x10\x02\x20\x01\x28\x02"),
					  NULL, 0, ask, NULL, &made, &len, &err), -EPROTO);
	assert_int_equal(pagemap_pages_id(BYTES("\x19\x43\x56\x54\x25\x40\x08\x56\x02\0\0\0\x10\x01"), &id, &err),
			 -EPROTO);
	assert_int_equal(pagemap_pages_id(BYTES("\x19\x43\x56\x54\x25\x40\x08\x56\0\0\0\0"), &id, &err), -EPROTO);
	assert_null(made);
}

static void overlaps(void **state)
{
	static const struct pagemap_range inside = { 0x401000, 1 }, into = { 0x3ff000, 2 },
					  same = { 0x400000, 1 }, odd = { 0x1001, 1 },
					  none = { 0x1000, 0 }, huge = { 0x1000, 1ull << 60 };
	static const struct pagemap_range order[] = { { 0x3000, 1 }, { 0x1000, 1 } };

	(void)state;
	refuse(BYTES(HEAD OLD_1), &inside, 1, "0x401000 is there twice");
	refuse(BYTES(HEAD OLD_1), &into, 1, "0x400000 is there twice");
	refuse(BYTES(HEAD OLD_1), &same, 1, "0x400000 is there twice");
	refuse(BYTES(HEAD), &odd, 1, "no memory");
	refuse(BYTES(HEAD), &none, 1, "no memory");
	refuse(BYTES(HEAD), &huge, 1, "no memory");
	refuse(BYTES(HEAD), order, 2, "out of order");
	refuse(BYTES(HEAD OLD_2 OLD_1), NULL, 0, "out of order");
}

static void damage(void **state)
{
	static const char whole[] = HEAD OLD_1 OLD_2;
	const size_t head = sizeof(HEAD) - 1, first = head + sizeof(OLD_1) - 1;

	(void)state;
	for (size_t len = 0; len < sizeof(whole) - 1; len++)
		if (len != head && len != first)
			refuse(whole, len, NULL, 0, "pagemap image: ");
	refuse(BYTES("\x19\x43\x56\x54\x25\x40\x08\x57\x02\0\0\0\x08\x01"), NULL, 0,
	       "something else");
	refuse(BYTES(HEAD "\x04\0\0\0\x08\x80\x20\x10"), NULL, 0, "cut off");
	refuse(BYTES(HEAD "\x03\0\0\0\x08\x80\x20"), NULL, 0, "no pages");
	refuse(BYTES(HEAD "\x07\0\0\0\x08\x80\x20\x10\x01\x20\x02"), NULL, 0, "nowhere");
	refuse(BYTES(HEAD "\x07\0\0\0\x08\x80\x20\x10\x01\x20\x0c"), NULL, 0, "unknown flag");
	refuse(BYTES(HEAD "\x07\0\0\0\x08\x80\x20\x10\x01\x30\x01"), NULL, 0, "unknown field");
	refuse(BYTES(HEAD "\x0b\0\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), NULL, 0,
	       "more than 64 bits");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(either_version),
		cmocka_unit_test(before_between_behind),
		cmocka_unit_test(neighbours),
		cmocka_unit_test(complete),
		cmocka_unit_test(overlaps),
		cmocka_unit_test(damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
