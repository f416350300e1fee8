#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "migrate/channel/compression.h"
#include "proto/block.h"

#define BLOCK (256u << 10)
#define MB (1ull << 20)

/* A link, and memory that shrinks: us a byte, and what is left of it, by level. */
struct world {
	double send;			/* us a wire byte */
	double compress[4], ratio[4];	/* of -10, -3, 1, 3 */
	double peer;			/* us a raw byte that the peer takes at least */
};

static const struct world text = {
	.compress = { 1 / 700.0, 1 / 450.0, 1 / 250.0, 1 / 120.0 }, .ratio = { 0.5, 0.4, 0.28, 0.24 },
};

static const struct world noise = {
	.compress = { 1 / 900.0, 1 / 700.0, 1 / 500.0, 1 / 400.0 }, .ratio = { 1, 1, 1, 1 },
};

struct outcome {
	uint64_t us, wire;
	uint64_t blocks[5];		/* by level, from none */
};

static unsigned index_of(int level)
{
	static const int all[] = { BLOCK_LEVEL_STORE, -10, -3, 1, 3 };

	for (unsigned i = 0; i < 5; i++)
		if (all[i] == level)
			return i;
	fail_msg("level %d", level);
	return 0;
}

static struct outcome send_bytes(struct compression *c, const struct world *w, uint64_t bytes)
{
	struct outcome o = { 0 };

	for (uint64_t at = 0; at < bytes; at += BLOCK) {
		unsigned i = index_of(compression_level(c));
		double compress = i ? w->compress[i - 1] * BLOCK : 0;
		double wire = i ? w->ratio[i - 1] * BLOCK : BLOCK, send = w->send * wire;

		if (compress + send < w->peer * BLOCK)
			send = w->peer * BLOCK - compress;
		compression_note(c, BLOCK, (uint64_t)wire, (uint64_t)compress, (uint64_t)send);
		o.us += (uint64_t)compress + (uint64_t)send;
		o.wire += (uint64_t)wire;
		o.blocks[i]++;
	}
	return o;
}

static struct outcome over(const struct world *memory, double megabytes_a_second, uint64_t bytes)
{
	struct world w = *memory;
	struct compression c;

	w.send = 1 / megabytes_a_second;
	compression_init(&c, COMPRESSION_AUTO);
	return send_bytes(&c, &w, bytes);
}

/* What the best level alone would take. */
static double best_us(const struct world *w, double megabytes_a_second, uint64_t bytes)
{
	double best = 1 / megabytes_a_second;

	for (unsigned i = 0; i < 4; i++) {
		double cost = w->compress[i] + w->ratio[i] / megabytes_a_second;

		best = cost < best ? cost : best;
	}
	return best * (double)bytes;
}

static void finds_the_best_level_for_each_link(void **state)
{
	static const double links[] = { 3000, 1000, 300, 100, 25, 5 };

	(void)state;
	for (size_t i = 0; i < sizeof(links) / sizeof(*links); i++) {
		struct outcome o = over(&text, links[i], 1024 * MB);

		if ((double)o.us > 1.2 * best_us(&text, links[i], 1024 * MB))
			fail_msg("%g MB/s: %llu us, the best takes %g", links[i], (unsigned long long)o.us,
				 best_us(&text, links[i], 1024 * MB));
	}
	assert_true(over(&text, 3000, 1024 * MB).wire > 900 * MB);
	assert_true(over(&text, 5, 1024 * MB).wire < 300 * MB);
}

static void what_does_not_shrink_costs_next_to_nothing(void **state)
{
	struct outcome fast = over(&noise, 1000, 1024 * MB), slow = over(&noise, 25, 1024 * MB);

	(void)state;
	assert_true(fast.blocks[0] > 4000);	/* of 4096 */
	assert_true((double)fast.us < 1.03 * 1024 * MB / 1000);
	assert_true((double)slow.us < 1.03 * 1024 * MB / 25);
}

/* Compressing makes nothing quicker then, and takes processor time. */
static void a_slow_peer_gets_it_as_it_is(void **state)
{
	struct world w = text;
	struct compression c;
	struct outcome o;

	(void)state;
	w.send = 1 / 2000.0;
	w.peer = 1 / 200.0;
	compression_init(&c, COMPRESSION_AUTO);
	o = send_bytes(&c, &w, 1024 * MB);
	assert_true(o.blocks[0] > 3600);
}

static void follows_when_the_link_changes(void **state)
{
	struct world w = text;
	struct compression c;
	struct outcome o;

	(void)state;
	w.send = 1 / 3000.0;
	compression_init(&c, COMPRESSION_AUTO);
	(void)send_bytes(&c, &w, 1024 * MB);
	w.send = 1 / 25.0;
	(void)send_bytes(&c, &w, 512 * MB);
	o = send_bytes(&c, &w, 256 * MB);
	assert_true(o.wire < 80 * MB);
	w.send = 1 / 3000.0;
	(void)send_bytes(&c, &w, 512 * MB);
	o = send_bytes(&c, &w, 256 * MB);
	assert_true((double)o.us < 1.3 * best_us(&text, 3000, 256 * MB));
}

static void a_fixed_level_stays(void **state)
{
	struct world w = text;
	struct compression c;

	(void)state;
	w.send = 1 / 3000.0;
	compression_init(&c, 1);
	assert_int_equal(send_bytes(&c, &w, 256 * MB).blocks[3], 1024);
	compression_init(&c, BLOCK_LEVEL_STORE);
	assert_int_equal(send_bytes(&c, &w, 256 * MB).blocks[0], 1024);
}

static void levels_as_people_write_them(void **state)
{
	static const char *const bad[] = { "", "0", "x", "3x", "99", "-99999999", "3 " };
	struct error err;
	int level;

	(void)state;
	assert_int_equal(compression_parse(NULL, &level, &err), 0);
	assert_int_equal(level, COMPRESSION_AUTO);
	assert_int_equal(compression_parse("auto", &level, &err), 0);
	assert_int_equal(level, COMPRESSION_AUTO);
	assert_int_equal(compression_parse("none", &level, &err), 0);
	assert_int_equal(level, BLOCK_LEVEL_STORE);
	assert_int_equal(compression_parse("-3", &level, &err), 0);
	assert_int_equal(level, -3);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(compression_parse(bad[i], &level, &err), -EINVAL);
		assert_non_null(strstr(err.msg, "zstd level"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_the_best_level_for_each_link),
		cmocka_unit_test(what_does_not_shrink_costs_next_to_nothing),
		cmocka_unit_test(a_slow_peer_gets_it_as_it_is),
		cmocka_unit_test(follows_when_the_link_changes),
		cmocka_unit_test(a_fixed_level_stays),
		cmocka_unit_test(levels_as_people_write_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
