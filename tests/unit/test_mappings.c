/* Locked mappings in mm-PID.img, and images that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "criu-glue/mappings.h"
#include "criu-glue/mm.pb-c.h"
#include "engine/base/cleanup.h"

#define HEAD_BYTES 12u
#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS)

struct mapping {
	uint64_t start, end;
	uint32_t flags;
};

/* An image as CRIU writes it. */
static size_t make_image(const struct mapping *m, size_t n, uint8_t *ret)
{
	Mm__VmaEntry entries[8], *list[8];
	Mm__MmEntry mm = MM__MM_ENTRY__INIT;
	uint32_t head[3] = { 0x54564319u, 0x57492820u };

	for (size_t i = 0; i < n; i++) {
		mm__vma_entry__init(&entries[i]);
		entries[i].start = m[i].start;
		entries[i].end = m[i].end;
		entries[i].flags = m[i].flags;
		list[i] = &entries[i];
	}
	mm.n_vmas = n;
	mm.vmas = list;
	head[2] = (uint32_t)mm__mm_entry__pack(&mm, ret + HEAD_BYTES);
	memcpy(ret, head, sizeof(head));
	return HEAD_BYTES + head[2];
}

static void only_what_is_locked_and_private_is_told(void **state)
{
	static const struct mapping all[] = {
		{ 0x1000, 0x3000, ANONYMOUS },
		{ 0x3000, 0x5000, ANONYMOUS | MAP_LOCKED },
		{ 0x5000, 0x6000, MAP_SHARED | MAP_ANONYMOUS | MAP_LOCKED },
		{ 0x6000, 0x7000, MAP_PRIVATE | MAP_LOCKED },
		{ 0x9000, 0xa000, ANONYMOUS | MAP_LOCKED | MAP_GROWSDOWN },
	};
	CLEANUP(freep) struct pagemap_range *got = NULL;
	uint8_t image[1024];
	struct error err;
	size_t n = 0;

	(void)state;
	assert_int_equal(mappings_locked(image, make_image(all, 5, image), &got, &n, &err), 0);
	assert_int_equal(n, 2);
	assert_true(got[0].address == 0x3000 && got[0].n_pages == 2);
	assert_true(got[1].address == 0x9000 && got[1].n_pages == 1);
}

static void none_is_no_error(void **state)
{
	static const struct mapping one = { 0x1000, 0x3000, ANONYMOUS };
	CLEANUP(freep) struct pagemap_range *got = NULL;
	uint8_t image[1024];
	struct error err;
	size_t n = 7;

	(void)state;
	assert_int_equal(mappings_locked(image, make_image(&one, 1, image), &got, &n, &err), 0);
	assert_int_equal(n, 0);
	assert_null(got);
}

static void what_is_no_image_is_refused(void **state)
{
	static const struct mapping good = { 0x1000, 0x3000, ANONYMOUS | MAP_LOCKED };
	static const struct mapping bad[][2] = {
		{ { 0x3000, 0x5000, 0 }, { 0x1000, 0x2000, 0 } },	/* out of order */
		{ { 0x1000, 0x3000, 0 }, { 0x2000, 0x4000, 0 } },	/* one over the other */
		{ { 0x1000, 0x1000, 0 }, { 0x2000, 0x4000, 0 } },	/* empty */
		{ { 0x1001, 0x2000, 0 }, { 0x2000, 0x4000, 0 } },	/* no pages */
	};
	struct pagemap_range *got = NULL;
	uint8_t image[1024], first;
	struct error err;
	size_t n, len = make_image(&good, 1, image);

	(void)state;
	for (size_t cut = 0; cut < len; cut++)
		assert_int_equal(mappings_locked(image, cut, &got, &n, &err), -EPROTO);
	first = image[4];
	image[4] ^= 1;
	assert_int_equal(mappings_locked(image, len, &got, &n, &err), -EPROTO);
	image[4] = first;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		len = make_image(bad[i], 2, image);
		assert_int_equal(mappings_locked(image, len, &got, &n, &err), -EPROTO);
	}
	assert_null(got);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_what_is_locked_and_private_is_told),
		cmocka_unit_test(none_is_no_error),
		cmocka_unit_test(what_is_no_image_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
