#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <zstd.h>

#include "proto/block.h"

struct rig {
	struct block_encoder *encoder;
	struct block_decoder *decoder;
	uint8_t *raw;			/* WIRE_RAW_MAX_BYTES + 1 */
	uint8_t *room;
	uint8_t *back;
};

static int set_up(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct error err;

	if (!rig || block_encoder_new(&rig->encoder, &err) < 0 ||
	    block_decoder_new(&rig->decoder, &err) < 0)
		return -1;
	rig->raw = calloc(1, WIRE_RAW_MAX_BYTES + 1);
	rig->room = calloc(1, 2 * WIRE_RAW_MAX_BYTES);
	rig->back = calloc(1, 2 * WIRE_RAW_MAX_BYTES);
	*state = rig;
	return rig->raw && rig->room && rig->back ? 0 : -1;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	block_encoder_free(rig->encoder);
	block_decoder_free(rig->decoder);
	free(rig->raw);
	free(rig->room);
	free(rig->back);
	free(rig);
	return 0;
}

static void fill_text(uint8_t *raw, size_t n)
{
	for (size_t i = 0; i < n; i++)
		raw[i] = (uint8_t)"key:0000 value "[i % 15] + (uint8_t)(i / 4096 % 3);
}

static void fill_noise(uint8_t *raw, size_t n)
{
	uint64_t x = 88172645463325252u;

	for (size_t i = 0; i < n; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		raw[i] = (uint8_t)(x >> 32);
	}
}

static struct block round_trip(struct rig *rig, int level, size_t n)
{
	struct block sent, got;
	struct error err;

	assert_int_equal(block_encode(rig->encoder, level, rig->raw, n, rig->room,
				      WIRE_DATA_MAX_BYTES, &sent, &err), 0);
	assert_true(sent.len > 0 && sent.len <= WIRE_DATA_MAX_BYTES);
	assert_int_equal(block_decode(rig->decoder, sent.flags, sent.data, sent.len, rig->back,
				      WIRE_RAW_MAX_BYTES, &got, &err), 0);
	assert_int_equal(got.len, n);
	assert_memory_equal(got.data, rig->raw, n);
	return sent;
}

static void every_level_comes_back(void **state)
{
	static const int levels[] = { 0, -100, -5, -1, 1, 3, 9, 19 };
	static const size_t sizes[] = { 1, 2, 15, 16, 17, 4096, 65537, WIRE_DATA_MAX_BYTES };
	struct rig *rig = *state;

	for (size_t l = 0; l < sizeof(levels) / sizeof(levels[0]); l++) {
		for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
			fill_text(rig->raw, sizes[s]);
			(void)round_trip(rig, levels[l], sizes[s]);
			fill_noise(rig->raw, sizes[s]);
			(void)round_trip(rig, levels[l], sizes[s]);
		}
	}
}

static void compresses_only_when_it_pays(void **state)
{
	struct rig *rig = *state;
	struct block block;

	fill_text(rig->raw, WIRE_DATA_MAX_BYTES);
	block = round_trip(rig, 1, WIRE_DATA_MAX_BYTES);
	assert_int_equal(block.flags, WIRE_FLAG_ZSTD);
	assert_true(block.len < WIRE_DATA_MAX_BYTES / 10);

	block = round_trip(rig, BLOCK_LEVEL_STORE, WIRE_DATA_MAX_BYTES);
	assert_int_equal(block.flags, 0);
	assert_ptr_equal(block.data, rig->raw);

	fill_noise(rig->raw, WIRE_DATA_MAX_BYTES);
	block = round_trip(rig, 3, WIRE_DATA_MAX_BYTES);
	assert_int_equal(block.flags, 0);
	assert_ptr_equal(block.data, rig->raw);
}

static void encoder_refuses_bad_calls(void **state)
{
	struct rig *rig = *state;
	struct block block;
	struct error err;

	assert_int_equal(block_encode(rig->encoder, 1, rig->raw, 0, rig->room,
				      WIRE_DATA_MAX_BYTES, &block, &err), -EINVAL);
	assert_int_equal(block_encode(rig->encoder, 1, rig->raw, WIRE_DATA_MAX_BYTES + 1,
				      rig->room, WIRE_RAW_MAX_BYTES, &block, &err), -EINVAL);
	assert_int_equal(block_encode(rig->encoder, 1, rig->raw, 100, rig->room, 99, &block,
				      &err), -EINVAL);
	assert_int_equal(block_encode(rig->encoder, block_level_max() + 1, rig->raw, 100,
				      rig->room, 100, &block, &err), -EINVAL);
	assert_int_equal(block_encode(rig->encoder, block_level_min() - 1, rig->raw, 100,
				      rig->room, 100, &block, &err), -EINVAL);
}

static void refuses(struct rig *rig, const void *payload, size_t len, size_t room,
		    const char *why)
{
	struct block block;
	struct error err;

	assert_int_equal(block_decode(rig->decoder, WIRE_FLAG_ZSTD, payload, len, rig->back,
				      room, &block, &err), -EPROTO);
	assert_non_null(strstr(err.msg, why));
}

static size_t compress(struct rig *rig, size_t n)
{
	size_t len = ZSTD_compress(rig->room, 2 * WIRE_RAW_MAX_BYTES, rig->raw, n, 1);

	assert_false(ZSTD_isError(len));
	return len;
}

static void content_is_bounded_before_it_is_unpacked(void **state)
{
	struct rig *rig = *state;
	struct block block;
	struct error err;
	size_t len;

	memset(rig->raw, 0, WIRE_RAW_MAX_BYTES + 1);
	len = compress(rig, WIRE_RAW_MAX_BYTES);
	assert_int_equal(block_decode(rig->decoder, WIRE_FLAG_ZSTD, rig->room, len, rig->back,
				      WIRE_RAW_MAX_BYTES, &block, &err), 0);
	assert_int_equal(block.len, WIRE_RAW_MAX_BYTES);
	refuses(rig, rig->room, len, WIRE_RAW_MAX_BYTES - 1, "there is room for");

	len = compress(rig, WIRE_RAW_MAX_BYTES + 1);
	refuses(rig, rig->room, len, 2 * WIRE_RAW_MAX_BYTES, "the most is 1048576");
	len = compress(rig, 0);
	refuses(rig, rig->room, len, WIRE_RAW_MAX_BYTES, "size of its content");
}

static void content_of_unsaid_size_is_refused(void **state)
{
	struct rig *rig = *state;
	ZSTD_CCtx *ctx = ZSTD_createCCtx();
	size_t len;

	assert_non_null(ctx);
	assert_false(ZSTD_isError(ZSTD_CCtx_setParameter(ctx, ZSTD_c_contentSizeFlag, 0)));
	len = ZSTD_compress2(ctx, rig->room, WIRE_RAW_MAX_BYTES, "aaaaaaaaaaaaaaaa", 16);
	assert_false(ZSTD_isError(len));
	(void)ZSTD_freeCCtx(ctx);
	refuses(rig, rig->room, len, WIRE_RAW_MAX_BYTES, "size of its content");
}

static void one_whole_frame_and_nothing_else(void **state)
{
	static const uint8_t skippable[] = { 0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4 };
	struct rig *rig = *state;
	size_t len;

	fill_text(rig->raw, 5000);
	len = compress(rig, 5000);
	for (size_t cut = 1; cut < len; cut++)
		refuses(rig, rig->room, cut, WIRE_RAW_MAX_BYTES, "DATA frame");
	refuses(rig, rig->room, len + 1, WIRE_RAW_MAX_BYTES, "not one whole zstd frame");
	memcpy(rig->room + len, rig->room, len);
	refuses(rig, rig->room, 2 * len, WIRE_RAW_MAX_BYTES, "not one whole zstd frame");
	memcpy(rig->room + len, skippable, sizeof(skippable));
	refuses(rig, rig->room, len + sizeof(skippable), WIRE_RAW_MAX_BYTES, "not one whole");
	refuses(rig, skippable, sizeof(skippable), WIRE_RAW_MAX_BYTES, "marked as zstd");
	refuses(rig, "plain", 5, WIRE_RAW_MAX_BYTES, "marked as zstd");
}

/* Flips don't always show (that is the frame checksum's business), but what
 * comes out is bounded, and the decoder works afterwards. */
static void flipped_bits_do_no_harm(void **state)
{
	struct rig *rig = *state;
	struct block block;
	struct error err;
	size_t len, refused = 0;

	fill_text(rig->raw, 5000);
	len = compress(rig, 5000);
	for (size_t bit = 0; bit < len * 8; bit++) {
		rig->room[bit / 8] ^= (uint8_t)(1 << bit % 8);
		if (block_decode(rig->decoder, WIRE_FLAG_ZSTD, rig->room, len, rig->back,
				 WIRE_RAW_MAX_BYTES, &block, &err) < 0)
			refused++;
		else
			assert_true(block.len <= WIRE_RAW_MAX_BYTES);
		rig->room[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_true(refused >= 32);		/* at least the magic */
	(void)round_trip(rig, 1, 5000);
}

static void decoder_refuses_bad_frames(void **state)
{
	struct rig *rig = *state;
	struct block block;
	struct error err;

	assert_int_equal(block_decode(rig->decoder, 0, rig->raw, 0, rig->back, 1, &block, &err),
			 -EPROTO);
	assert_int_equal(block_decode(rig->decoder, 0, rig->raw, WIRE_DATA_MAX_BYTES + 1,
				      rig->back, 1, &block, &err), -EPROTO);
	assert_int_equal(block_decode(rig->decoder, 2, rig->raw, 1, rig->back, 1, &block, &err),
			 -EPROTO);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_level_comes_back),
		TEST(compresses_only_when_it_pays),
		TEST(encoder_refuses_bad_calls),
		TEST(content_is_bounded_before_it_is_unpacked),
		TEST(content_of_unsaid_size_is_refused),
		TEST(one_whole_frame_and_nothing_else),
		TEST(flipped_bits_do_no_harm),
		TEST(decoder_refuses_bad_frames),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
