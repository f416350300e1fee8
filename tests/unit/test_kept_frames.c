#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "migrate/channel/kept_frames.h"

#define RING (4u * KEPT_FRAME_MAX)

static struct kept_frames *new_ring(size_t bytes)
{
	struct kept_frames *k = NULL;
	struct error err;

	assert_int_equal(kept_frames_new(bytes, &k, &err), 0);
	return k;
}

/* Frame n has a length and bytes that only it has. */
static size_t length_of(uint64_t n)
{
	return n % 7 == 0 ? KEPT_FRAME_MAX : 16 + (size_t)(n * 2654435761u % 9000);
}

static bool add(struct kept_frames *k, uint64_t n)
{
	uint8_t *place = kept_frames_room(k);

	if (!place)
		return false;
	memset(place, (int)(n * 31 % 256), length_of(n));
	kept_frames_add(k, length_of(n));
	return true;
}

static void check(const struct kept_frames *k, uint64_t first, uint64_t next)
{
	const uint8_t *frame;
	size_t len;

	assert_int_equal(kept_frames_first(k), first);
	assert_false(kept_frames_get(k, first - 1, &frame, &len));
	assert_false(kept_frames_get(k, next, &frame, &len));
	for (uint64_t n = first; n < next; n++) {
		assert_true(kept_frames_get(k, n, &frame, &len));
		assert_int_equal(len, length_of(n));
		assert_int_equal(frame[0], n * 31 % 256);
		assert_memory_equal(frame, frame + 1, len - 1);
	}
}

static void what_is_not_confirmed_stays(void **state)
{
	CLEANUP(kept_frames_freep) struct kept_frames *k = new_ring(RING);
	uint64_t first = 1, next = 1, chance = 1;
	struct error err;

	(void)state;
	for (int turn = 0; turn < 20000; turn++) {
		chance = chance * 6364136223846793005u + 1442695040888963407u;
		if (chance >> 62 && add(k, next)) {
			next++;
		} else if (next > first) {
			first += 1 + (chance >> 33) % (next - first);
			assert_int_equal(kept_frames_confirm(k, first - 1, &err), 0);
		}
		if (turn % 64 == 0)
			check(k, first, next);
	}
	assert_true(next > 10000);
	check(k, first, next);
}

static void a_full_ring_has_no_room_until_confirmed(void **state)
{
	CLEANUP(kept_frames_freep) struct kept_frames *k = new_ring(RING);
	struct error err;
	uint64_t n = 1;

	(void)state;
	while (add(k, n))
		n++;
	check(k, 1, n);
	assert_null(kept_frames_room(k));
	assert_int_equal(kept_frames_confirm(k, n - 1, &err), 0);
	assert_true(add(k, n));
	check(k, n, n + 1);
}

static void tiny_frames_are_bounded_as_well(void **state)
{
	CLEANUP(kept_frames_freep) struct kept_frames *k = new_ring(RING);
	size_t n = 0;

	(void)state;
	for (; kept_frames_room(k); n++)
		kept_frames_add(k, 16);
	assert_in_range(n, 1000, RING / 16);
}

static void lies_are_refused(void **state)
{
	CLEANUP(kept_frames_freep) struct kept_frames *k = new_ring(RING);
	struct kept_frames *small = NULL;
	struct error err;

	(void)state;
	for (uint64_t n = 1; n <= 5; n++)
		assert_true(add(k, n));
	assert_int_equal(kept_frames_confirm(k, 6, &err), -EPROTO);
	assert_int_equal(kept_frames_confirm(k, 3, &err), 0);
	assert_int_equal(kept_frames_confirm(k, 3, &err), 0);
	assert_int_equal(kept_frames_confirm(k, 2, &err), -EPROTO);
	check(k, 4, 6);
	assert_int_equal(kept_frames_new(KEPT_FRAME_MAX, &small, &err), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_not_confirmed_stays),
		cmocka_unit_test(a_full_ring_has_no_room_until_confirmed),
		cmocka_unit_test(tiny_frames_are_bounded_as_well),
		cmocka_unit_test(lies_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
