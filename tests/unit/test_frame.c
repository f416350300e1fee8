#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/frame_reader.h"

static const char payload[] = "the longest non-stop flight";

static void encode(enum wire_type type, uint16_t flags, const void *data, size_t len,
		   uint8_t head[WIRE_HEADER_BYTES])
{
	struct error err;

	assert_int_equal(frame_encode(type, flags, data, len, head, &err), 0);
}

static void header_layout_is_fixed(void **state)
{
	uint8_t head[WIRE_HEADER_BYTES];
	static const uint8_t expected[12] = {
		'G', 'D', 'W', 'T', WIRE_DATA, 0, WIRE_FLAG_ZSTD, 0, sizeof(payload), 0, 0, 0,
	};

	(void)state;
	encode(WIRE_DATA, WIRE_FLAG_ZSTD, payload, sizeof(payload), head);
	assert_memory_equal(head, expected, sizeof(expected));
}

static void every_type_comes_back(void **state)
{
	uint8_t head[WIRE_HEADER_BYTES];
	struct frame frame;
	struct error err;

	(void)state;
	for (unsigned type = 1; type < WIRE_TYPE_END; type++) {
		assert_non_null(wire_type_name(type));
		encode((enum wire_type)type, 0, payload, sizeof(payload), head);
		assert_int_equal(frame_decode(head, &frame, &err), 0);
		assert_int_equal(frame.type, type);
		assert_int_equal(frame.flags, 0);
		assert_int_equal(frame.length, sizeof(payload));
		assert_int_equal(frame_verify(&frame, payload, &err), 0);
	}
}

static void empty_payload_is_fine_but_not_for_data(void **state)
{
	uint8_t head[WIRE_HEADER_BYTES];
	struct frame frame;
	struct error err;

	(void)state;
	encode(WIRE_RESTORE, 0, NULL, 0, head);
	assert_int_equal(frame_decode(head, &frame, &err), 0);
	assert_int_equal(frame_verify(&frame, NULL, &err), 0);
	assert_int_equal(frame_encode(WIRE_DATA, 0, NULL, 0, head, &err), -EINVAL);
}

static void flipped_bits_are_seen(void **state)
{
	uint8_t wire[WIRE_HEADER_BYTES + sizeof(payload)];
	struct frame frame;
	struct error err;

	(void)state;
	encode(WIRE_DATA, 0, payload, sizeof(payload), wire);
	memcpy(wire + WIRE_HEADER_BYTES, payload, sizeof(payload));
	for (size_t bit = 0; bit < sizeof(wire) * 8; bit++) {
		int r;

		wire[bit / 8] ^= (uint8_t)(1 << bit % 8);
		r = frame_decode(wire, &frame, &err);
		/* A shorter length is seen in the payload that is there, a
		 * longer one would wait for bytes that are not ours to make up. */
		if (r == 0 && frame.length <= sizeof(payload))
			r = frame_verify(&frame, wire + WIRE_HEADER_BYTES, &err);
		else if (r == 0)
			r = -EPROTO;
		assert_int_equal(r, -EPROTO);
		wire[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

static void refuses_header(unsigned type, unsigned flags, uint32_t length, const char *why)
{
	uint8_t head[WIRE_HEADER_BYTES];
	struct frame frame;
	struct error err;

	encode(WIRE_RESTORE, 0, NULL, 0, head);
	head[4] = (uint8_t)type;
	head[5] = (uint8_t)(type >> 8);
	head[6] = (uint8_t)flags;
	head[7] = (uint8_t)(flags >> 8);
	for (int i = 0; i < 4; i++)
		head[8 + i] = (uint8_t)(length >> 8 * i);
	assert_int_equal(frame_decode(head, &frame, &err), -EPROTO);
	assert_non_null(strstr(err.msg, why));
}

static void limits_hold_by_the_header_alone(void **state)
{
	uint8_t head[WIRE_HEADER_BYTES];
	struct frame frame;
	struct error err;

	(void)state;
	refuses_header(0, 0, 0, "unknown type 0");
	refuses_header(WIRE_TYPE_END, 0, 0, "unknown type");
	refuses_header(0xffff, 0, 0, "unknown type 65535");
	refuses_header(WIRE_HELLO, WIRE_FLAG_ZSTD, 0, "unknown flags 0x1");
	refuses_header(WIRE_DATA, 0x8000, 1, "unknown flags 0x8000");
	refuses_header(WIRE_DATA, 0, 0, "without data");
	refuses_header(WIRE_DATA, 0, WIRE_DATA_MAX_BYTES + 1, "the most is 262144");
	refuses_header(WIRE_OFFER, 0, WIRE_CONTROL_MAX_BYTES + 1, "the most is 1048576");
	refuses_header(WIRE_OFFER, 0, UINT32_MAX, "the most is 1048576");

	memcpy(head, "GET / HTTP/1.1\r\n", sizeof(head));
	assert_int_equal(frame_decode(head, &frame, &err), -EPROTO);
	assert_non_null(strstr(err.msg, "not the godwit protocol"));
}

static void what_a_peer_would_refuse_is_not_sent(void **state)
{
	CLEANUP(freep) char *big = calloc(1, WIRE_CONTROL_MAX_BYTES + 1);
	uint8_t head[WIRE_HEADER_BYTES];
	struct error err;

	(void)state;
	assert_non_null(big);
	encode(WIRE_DATA, 0, big, WIRE_DATA_MAX_BYTES, head);
	encode(WIRE_OFFER, 0, big, WIRE_CONTROL_MAX_BYTES, head);
	assert_int_equal(frame_encode(WIRE_DATA, 0, big, WIRE_DATA_MAX_BYTES + 1, head, &err),
			 -EINVAL);
	assert_int_equal(frame_encode(WIRE_OFFER, 0, big, WIRE_CONTROL_MAX_BYTES + 1, head, &err),
			 -EINVAL);
	assert_int_equal(frame_encode(WIRE_OFFER, WIRE_FLAG_ZSTD, big, 1, head, &err), -EINVAL);
	assert_int_equal(frame_encode((enum wire_type)99, 0, big, 1, head, &err), -EINVAL);
}

/* Feeds n bytes in pieces of at most step; counts complete frames. Stops at
 * the first error and returns it. */
static int feed(struct frame_reader *reader, const uint8_t *bytes, size_t n, size_t step,
		unsigned *ret_frames, struct error *err)
{
	*ret_frames = 0;
	while (n > 0) {
		size_t size, take;
		void *place = frame_reader_space(reader, &size);
		int r;

		assert_true(size > 0);
		take = size < step ? size : step;
		take = take < n ? take : n;
		memcpy(place, bytes, take);
		bytes += take;
		n -= take;
		r = frame_reader_advance(reader, take, err);
		if (r < 0)
			return r;
		*ret_frames += (unsigned)r;
	}
	return 0;
}

/* RESTORE (empty), then DATA. */
static size_t two_frames(uint8_t *wire)
{
	encode(WIRE_RESTORE, 0, NULL, 0, wire);
	encode(WIRE_DATA, 0, payload, sizeof(payload), wire + WIRE_HEADER_BYTES);
	memcpy(wire + 2 * WIRE_HEADER_BYTES, payload, sizeof(payload));
	return 2 * WIRE_HEADER_BYTES + sizeof(payload);
}

static void reader_takes_any_pieces(void **state)
{
	uint8_t wire[128];
	size_t len = two_frames(wire);
	struct error err;
	unsigned frames;

	(void)state;
	for (size_t step = 1; step <= len; step++) {
		CLEANUP(frame_reader_freep) struct frame_reader *reader = NULL;

		assert_int_equal(frame_reader_new(&reader, &err), 0);
		assert_true(frame_reader_is_idle(reader));
		for (int i = 0; i < 3; i++) {
			assert_int_equal(feed(reader, wire, len, step, &frames, &err), 0);
			assert_int_equal(frames, 2);
			assert_true(frame_reader_is_idle(reader));
			assert_int_equal(frame_reader_frame(reader)->type, WIRE_DATA);
			assert_memory_equal(frame_reader_payload(reader), payload, sizeof(payload));
		}
	}
}

static void reader_knows_a_cut_frame(void **state)
{
	uint8_t wire[128];
	size_t len = two_frames(wire);
	struct error err;
	unsigned frames;

	(void)state;
	for (size_t cut = 0; cut <= len; cut++) {
		CLEANUP(frame_reader_freep) struct frame_reader *reader = NULL;

		assert_int_equal(frame_reader_new(&reader, &err), 0);
		assert_int_equal(feed(reader, wire, cut, 7, &frames, &err), 0);
		assert_int_equal(frames, (cut >= WIRE_HEADER_BYTES) + (cut == len));
		assert_int_equal(frame_reader_is_idle(reader),
				 cut == 0 || cut == WIRE_HEADER_BYTES || cut == len);
	}
}

static void reader_refuses_damage(void **state)
{
	uint8_t wire[128];
	size_t len = two_frames(wire);
	struct error err;
	unsigned frames;

	(void)state;
	for (size_t i = 0; i < len; i++) {
		CLEANUP(frame_reader_freep) struct frame_reader *reader = NULL;
		int r;

		wire[i] ^= 0x10;
		assert_int_equal(frame_reader_new(&reader, &err), 0);
		r = feed(reader, wire, len, 5, &frames, &err);
		assert_true(r == -EPROTO || !frame_reader_is_idle(reader));
		wire[i] ^= 0x10;
	}
}

static void reader_takes_the_longest_frame(void **state)
{
	CLEANUP(freep) uint8_t *wire = calloc(1, WIRE_HEADER_BYTES + WIRE_CONTROL_MAX_BYTES);
	CLEANUP(frame_reader_freep) struct frame_reader *reader = NULL;
	struct error err;
	unsigned frames;

	(void)state;
	assert_non_null(wire);
	memset(wire + WIRE_HEADER_BYTES, 'x', WIRE_CONTROL_MAX_BYTES);
	encode(WIRE_OFFER, 0, wire + WIRE_HEADER_BYTES, WIRE_CONTROL_MAX_BYTES, wire);
	assert_int_equal(frame_reader_new(&reader, &err), 0);
	assert_int_equal(feed(reader, wire, WIRE_HEADER_BYTES + WIRE_CONTROL_MAX_BYTES, 65536,
			      &frames, &err), 0);
	assert_int_equal(frames, 1);
	assert_memory_equal(frame_reader_payload(reader), wire + WIRE_HEADER_BYTES,
			    WIRE_CONTROL_MAX_BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(header_layout_is_fixed),
		cmocka_unit_test(every_type_comes_back),
		cmocka_unit_test(empty_payload_is_fine_but_not_for_data),
		cmocka_unit_test(flipped_bits_are_seen),
		cmocka_unit_test(limits_hold_by_the_header_alone),
		cmocka_unit_test(what_a_peer_would_refuse_is_not_sent),
		cmocka_unit_test(reader_takes_any_pieces),
		cmocka_unit_test(reader_knows_a_cut_frame),
		cmocka_unit_test(reader_refuses_damage),
		cmocka_unit_test(reader_takes_the_longest_frame),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
