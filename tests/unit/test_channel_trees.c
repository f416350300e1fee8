/* Trees on a channel: what arrives is what was sent, or it is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "tests/unit/channel_fixture.h"

#define TREE_BYTES ((3u << 20) + 12345)
#define PIECE 100001

static uint8_t byte_at(size_t i)
{
	return i % 4096 < 3000 ? (uint8_t)(i >> 12) : (uint8_t)((i * 2654435761u) >> 13);
}

static bool send_tree(struct channel *ch)
{
	uint8_t piece[PIECE];
	struct error err;

	if (channel_tree_begin(ch, MESSAGE_TREE_IMAGE, "", &err) < 0)
		return false;
	for (size_t at = 0; at < TREE_BYTES; at += sizeof(piece)) {
		size_t n = TREE_BYTES - at < sizeof(piece) ? TREE_BYTES - at : sizeof(piece);

		for (size_t i = 0; i < n; i++)
			piece[i] = byte_at(at + i);
		if (channel_send_data(ch, piece, n, &err) < 0)
			return false;
	}
	return channel_tree_end(ch, 3, &err) == 0;
}

static bool send_two_trees(struct channel *ch)
{
	if (!send_tree(ch))
		return false;
	ch->sequence.state = SEQUENCE_IMAGE_WANTED;
	channel_set_level(ch, BLOCK_LEVEL_STORE);
	return send_tree(ch);
}

static void begin(struct channel *ch)
{
	struct message m;
	struct error err;

	OK(channel_receive(ch, WIRE_TREE_BEGIN, &m, &err));
	assert_int_equal(m.tree_begin.kind, MESSAGE_TREE_IMAGE);
	message_free(&m);
}

static void take_tree(struct channel *ch)
{
	const void *data;
	struct error err;
	size_t at = 0;
	ssize_t n;

	begin(ch);
	while ((n = channel_receive_data(ch, &data, &err)) > 0)
		for (const uint8_t *p = data; n; n--, p++, at++)
			if (*p != byte_at(at))
				fail_msg("byte %zu differs", at);
	if (n < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(at, TREE_BYTES);
}

static void tree_arrives_as_it_was_sent(void **state)
{
	struct peer p = with_peer(send_two_trees, WIRE_TARGET, SEQUENCE_IMAGE_WANTED);
	struct channel_stats compressed, plain;

	(void)state;
	take_tree(p.ours);
	compressed = channel_stats(p.ours);
	assert_int_equal(compressed.raw_bytes, TREE_BYTES);
	assert_true(compressed.wire_bytes < TREE_BYTES / 2);
	p.ours->sequence.state = SEQUENCE_IMAGE_WANTED;
	take_tree(p.ours);
	plain = channel_stats(p.ours);
	assert_int_equal(plain.raw_bytes, 2 * TREE_BYTES);
	assert_true(plain.wire_bytes - compressed.wire_bytes > TREE_BYTES);
	end(&p);
}

static bool lie_about_the_sum(struct channel *ch)
{
	struct message m = { .type = WIRE_TREE_END, .tree_end = { .raw_bytes = 3, .checksum = 1 } };
	struct error err;

	return channel_tree_begin(ch, MESSAGE_TREE_IMAGE, "", &err) == 0 &&
	       channel_send_data(ch, "abc", 3, &err) == 0 && channel_send_data(ch, NULL, 0, &err) == 0 &&
	       channel_send(ch, &m, &err) == 0;
}

static void wrong_sum_is_seen(void **state)
{
	struct peer p = with_peer(lie_about_the_sum, WIRE_TARGET, SEQUENCE_IMAGE_WANTED);
	const void *data;
	struct error err;

	(void)state;
	begin(p.ours);
	assert_int_equal(channel_receive_data(p.ours, &data, &err), 3);
	FAILS(channel_receive_data(p.ours, &data, &err), EPROTO, "damaged");
	end(&p);
}

static bool compress_a_plain_tree(struct channel *ch)
{
	const struct message m = { .type = WIRE_TREE_BEGIN, .tree_begin = {
		.kind = MESSAGE_TREE_IMAGE, .label = "", .compressed = false } };
	char zeros[4096] = "";
	struct error err;

	return channel_send(ch, &m, &err) == 0 && channel_send_data(ch, zeros, sizeof(zeros), &err) == 0 &&
	       channel_send_data(ch, NULL, 0, &err) == 0;
}

static void plain_tree_has_plain_blocks(void **state)
{
	struct peer p = with_peer(compress_a_plain_tree, WIRE_TARGET, SEQUENCE_IMAGE_WANTED);
	const void *data;
	struct error err;

	(void)state;
	begin(p.ours);
	FAILS(channel_receive_data(p.ours, &data, &err), EPROTO, "announced as not compressed");
	end(&p);
}

static bool abort_in_a_tree(struct channel *ch)
{
	struct error err;

	return channel_tree_begin(ch, MESSAGE_TREE_IMAGE, "", &err) == 0 &&
	       channel_send_data(ch, "abc", 3, &err) == 0 && channel_send_data(ch, NULL, 0, &err) == 0 &&
	       give_up(ch);
}

static void abort_in_a_tree_is_heard(void **state)
{
	struct peer p = with_peer(abort_in_a_tree, WIRE_TARGET, SEQUENCE_IMAGE_WANTED);
	const void *data;
	struct error err;

	(void)state;
	begin(p.ours);
	assert_int_equal(channel_receive_data(p.ours, &data, &err), 3);
	FAILS(channel_receive_data(p.ours, &data, &err), ECONNABORTED, "on fire");
	end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tree_arrives_as_it_was_sent),
		cmocka_unit_test(wrong_sum_is_seen),
		cmocka_unit_test(plain_tree_has_plain_blocks),
		cmocka_unit_test(abort_in_a_tree_is_heard),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
