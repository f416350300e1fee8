#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/cleanup.h"
#include "proto/frame.h"
#include "tests/unit/message_fixture.h"

/* One of each type, filled. */
static size_t all_samples(struct message ret[WIRE_TYPE_END])
{
	const struct message all[] = {
		sample_hello(), sample_offer(), sample_verdict(), sample_tree_begin(),
		sample_answer(), sample_restored(),
		{ .type = WIRE_TREE_END, .tree_end = { 10, 20, UINT64_MAX } },
		{ .type = WIRE_PREPARED, .prepared = { 30 } },
		{ .type = WIRE_FROZEN, .frozen = { WIRE_TIME_MAX_US } },
		{ .type = WIRE_RESTORE },
		{ .type = WIRE_COMMIT, .commit = { TOKEN } },
		{ .type = WIRE_RESUMED, .resumed = { TOKEN, 40, 50, NULL, 0 } },
		{ .type = WIRE_RELEASE, .release = { TOKEN } },
		{ .type = WIRE_ABORT, .abort = { "disk-full", "no space left", "runs there" } },
		{ .type = WIRE_QUERY, .query = { TOKEN } },
		{ .type = WIRE_PROGRESS, .progress = { "unpack", 60 } },
		{ .type = WIRE_JOIN, .join = { TOKEN, "web", WIRE_CONNECTIONS_MAX - 1 } },
		{ .type = WIRE_JOINED, .joined = { 70 } },
		{ .type = WIRE_RECEIVED, .received = { 80 } },
		{ .type = WIRE_SYNCED, .synced = { TOKEN } },
		{ .type = WIRE_FORGOTTEN, .forgotten = { TOKEN } },
		{ .type = WIRE_NETWORK, .network = { "lan", "{}", true } },
		{ .type = WIRE_PLACES, .places = { "lan", 3, "{}" } },
	};

	memcpy(ret, all, sizeof(all));
	return sizeof(all) / sizeof(all[0]);
}

static void every_message_comes_back(void **state)
{
	struct message samples[WIRE_TYPE_END];
	size_t n = all_samples(samples);
	struct error err;

	(void)state;
	assert_int_equal(n, WIRE_TYPE_END - 2);		/* all but 0 and DATA */
	for (size_t i = 0; i < n; i++) {
		CLEANUP(buffer_free) struct buffer first = {}, second = {};
		CLEANUP(message_free) struct message back = {};

		assert_int_equal(message_encode(&samples[i], &first, &err), 0);
		assert_int_equal(message_decode(samples[i].type, first.data, first.len, &back,
						&err), 0);
		assert_int_equal(back.type, samples[i].type);
		assert_int_equal(message_encode(&back, &second, &err), 0);
		assert_int_equal(first.len, second.len);
		if (first.len)
			assert_memory_equal(first.data, second.data, first.len);
	}
}

static void fields_keep_their_values(void **state)
{
	CLEANUP(message_free) struct message offer = turn_around(sample_offer());
	CLEANUP(message_free) struct message verdict = turn_around(sample_verdict());
	CLEANUP(message_free) struct message tree = turn_around(sample_tree_begin());
	CLEANUP(message_free) struct message restored = turn_around(sample_restored());
	CLEANUP(message_free) struct message answer = turn_around(sample_answer());

	(void)state;
	assert_string_equal(offer.offer.token, TOKEN);
	assert_string_equal(offer.offer.config_json, sample_offer().offer.config_json);
	assert_string_equal(offer.offer.state_json, "");
	assert_true(offer.offer.memory_bytes == WIRE_BYTES_MAX);
	assert_true(offer.offer.image_entries == WIRE_ENTRIES_MAX);
	assert_int_equal(offer.offer.disk_bytes, 0);
	assert_int_equal(offer.offer.criu_version, 40101);
	assert_int_equal(offer.offer.n_cpu_features, 3);
	assert_string_equal(offer.offer.cpu_features[2], "avx2");
	assert_string_equal(offer.offer.needs[1], "overlayfs");
	assert_false(verdict.verdict.accepted);
	assert_int_equal(verdict.verdict.n_reasons, 2);
	assert_string_equal(verdict.verdict.reasons[0].code, "name-taken");
	assert_string_equal(verdict.verdict.reasons[1].message, reasons[1].message);
	assert_string_equal(verdict.verdict.reasons[1].remedy, "");
	assert_int_equal(tree.tree_begin.kind, MESSAGE_TREE_TMPFS);
	assert_true(tree.tree_begin.compressed);
	assert_int_equal(restored.restored.pid, 4242);
	assert_int_equal(answer.answer.outcome, MESSAGE_OUTCOME_LOST);
}

static void a_frame_is_ready_to_send(void **state)
{
	CLEANUP(buffer_free) struct buffer out = {};
	CLEANUP(message_free) struct message back = {};
	struct message hello = sample_hello(), bad = sample_hello();
	struct frame frame;
	struct error err;
	size_t len;

	(void)state;
	assert_int_equal(buffer_append(&out, "xyz", 3, &err), 0);
	assert_int_equal(message_encode_frame(&hello, &out, &err), 0);
	assert_int_equal(frame_decode(out.data + 3, &frame, &err), 0);
	assert_int_equal(frame.type, WIRE_HELLO);
	assert_int_equal(frame.length, out.len - 3 - WIRE_HEADER_BYTES);
	assert_int_equal(frame_verify(&frame, out.data + 3 + WIRE_HEADER_BYTES, &err), 0);
	assert_int_equal(message_decode(frame.type, out.data + 3 + WIRE_HEADER_BYTES,
					frame.length, &back, &err), 0);
	assert_string_equal(back.hello.node_name, "node-a");
	assert_string_equal(back.hello.node_id, TOKEN);

	len = out.len;
	bad.hello.node_name = "";
	assert_int_equal(message_encode_frame(&bad, &out, &err), -EINVAL);
	assert_int_equal(out.len, len);
}

/* A cut message has lost a field or the end of one; where the lost fields may
 * be absent, what remains is another valid message, never more than was sent. */
static void cut_messages_are_refused_or_sane(void **state)
{
	struct message samples[WIRE_TYPE_END];
	size_t n = all_samples(samples);
	struct error err;

	(void)state;
	for (size_t i = 0; i < n; i++) {
		CLEANUP(buffer_free) struct buffer bytes = {};

		assert_int_equal(message_encode(&samples[i], &bytes, &err), 0);
		for (size_t cut = 0; cut < bytes.len; cut++) {
			CLEANUP(freep) uint8_t *exact = malloc(cut + !cut);
			CLEANUP(message_free) struct message back = {};
			CLEANUP(buffer_free) struct buffer again = {};

			assert_non_null(exact);
			memcpy(exact, bytes.data, cut);
			if (message_decode(samples[i].type, exact, cut, &back, &err) < 0) {
				assert_int_equal(err.code, EPROTO);
				assert_non_null(strstr(err.msg, wire_type_name(samples[i].type)));
				continue;
			}
			assert_int_equal(message_encode(&back, &again, &err), 0);
			assert_int_equal(again.len, cut);
		}
	}
}

static void flipped_bits_are_refused_or_mean_what_they_say(void **state)
{
	struct message samples[WIRE_TYPE_END];
	size_t n = all_samples(samples);
	struct error err;

	(void)state;
	for (size_t i = 0; i < n; i++) {
		CLEANUP(buffer_free) struct buffer bytes = {};

		assert_int_equal(message_encode(&samples[i], &bytes, &err), 0);
		for (size_t bit = 0; bit < bytes.len * 8; bit++) {
			CLEANUP(message_free) struct message back = {};
			CLEANUP(buffer_free) struct buffer again = {};

			bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
			if (message_decode(samples[i].type, bytes.data, bytes.len, &back, &err) == 0) {
				assert_int_equal(message_encode(&back, &again, &err), 0);
				assert_int_equal(again.len, bytes.len);
				assert_memory_equal(again.data, bytes.data, bytes.len);
			}
			bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
	}
}

static void types_that_are_no_message(void **state)
{
	CLEANUP(buffer_free) struct buffer bytes = {};
	struct message back;
	struct error err;

	(void)state;
	assert_int_equal(message_decode(WIRE_DATA, "", 0, &back, &err), -EPROTO);
	assert_int_equal(message_decode((enum wire_type)0, "", 0, &back, &err), -EPROTO);
	assert_int_equal(message_decode((enum wire_type)WIRE_TYPE_END, "", 0, &back, &err),
			 -EPROTO);
	assert_int_equal(message_encode(&(struct message){ .type = WIRE_DATA }, &bytes, &err),
			 -EINVAL);
}

static void refused_bytes(enum wire_type type, const void *bytes, size_t len, const char *why)
{
	struct message back;
	struct error err = {};

	assert_int_equal(message_decode(type, bytes, len, &back, &err), -EPROTO);
	if (!strstr(err.msg, why))
		fail_msg("\"%s\" lacks \"%s\"", err.msg, why);
}

static void only_one_form_of_a_message(void **state)
{
	(void)state;
	refused_bytes(WIRE_PREPARED, "\x08\x05\x08\x06", 4, "doubled");		/* twice */
	refused_bytes(WIRE_PREPARED, "\x08\x05\x10\x06", 4, "unknown");		/* field 2 */
	refused_bytes(WIRE_RESTORE, "\x08\x05", 2, "unknown");
	refused_bytes(WIRE_PREPARED, "\x08\x85\x00", 3, "malformed");		/* long 5 */
	refused_bytes(WIRE_PREPARED, "\x08\x00", 2, "malformed");		/* said 0 */
	refused_bytes(WIRE_PREPARED, "\x0a\x01x", 3, "PREPARED");		/* a text */
	refused_bytes(WIRE_PROGRESS, "\x10\x05\x0a\x01x", 5, "malformed");	/* order */
	refused_bytes(WIRE_PROGRESS, "\x0a\x03x\0y", 5, "malformed");		/* NUL */
	refused_bytes(WIRE_PROGRESS, "\x0a\x7fx", 3, "can't be parsed");
	refused_bytes(WIRE_ANSWER, "\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, "ANSWER");
	refused_bytes(WIRE_RELEASE, "", 0, "token");
	refused_bytes(WIRE_ANSWER, "", 0, "token");
}

/* A megabyte of the smallest fields asks for far more memory than it is; it must
 * be given up while parsing, before anybody counts what it holds. */
static void memory_of_parsing_is_bounded(void **state)
{
	static const struct { enum wire_type type; uint8_t tag; } floods[] = {
		{ WIRE_OFFER, 0x72 }, { WIRE_OFFER, 0x7a }, { WIRE_OFFER, 0x0a },
		{ WIRE_VERDICT, 0x12 }, { WIRE_RESTORE, 0x0a }, { WIRE_COMMIT, 0x7a },
	};
	CLEANUP(freep) uint8_t *bytes = calloc(1, WIRE_CONTROL_MAX_BYTES + 1);

	(void)state;
	assert_non_null(bytes);
	for (size_t f = 0; f < sizeof(floods) / sizeof(floods[0]); f++) {
		for (size_t i = 0; i < WIRE_CONTROL_MAX_BYTES; i += 2)
			bytes[i] = floods[f].tag;
		refused_bytes(floods[f].type, bytes, WIRE_CONTROL_MAX_BYTES, "can't be parsed");
	}
	refused_bytes(WIRE_OFFER, bytes, WIRE_CONTROL_MAX_BYTES + 1, "the most is 1048576");
}

static void versions_meet(void **state)
{
	const struct message_hello both = { "godwit 2", 7, 4, "new", TOKEN };
	const struct message_hello old = { "godwit 1", 4, 1, "old", TOKEN };
	const struct message_hello ancient = { "godwit 0", 3, 1, "ancient", TOKEN };
	struct error err;
	uint32_t version;

	(void)state;
	assert_int_equal(message_agree_version(&both, &old, &version, &err), 0);
	assert_int_equal(version, 4);
	assert_int_equal(message_agree_version(&old, &both, &version, &err), 0);
	assert_int_equal(version, 4);
	assert_int_equal(message_agree_version(&both, &both, &version, &err), 0);
	assert_int_equal(version, 7);
	assert_int_equal(message_agree_version(&ancient, &both, &version, &err), -EPROTONOSUPPORT);
	assert_string_equal(err.msg, "ancient runs godwit 0, which speaks protocol version 3 at "
			    "most; new (godwit 2) needs 4 or later: upgrade ancient");
	assert_int_equal(message_agree_version(&both, &ancient, &version, &err), -EPROTONOSUPPORT);
	assert_non_null(strstr(err.msg, "upgrade ancient"));
}

static void kinds_of_trees_have_names(void **state)
{
	(void)state;
	assert_string_equal(message_tree_kind_name(MESSAGE_TREE_META), "meta");
	assert_null(message_tree_kind_name((enum message_tree_kind)0));
	assert_null(message_tree_kind_name((enum message_tree_kind)8));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_message_comes_back),
		cmocka_unit_test(fields_keep_their_values),
		cmocka_unit_test(a_frame_is_ready_to_send),
		cmocka_unit_test(cut_messages_are_refused_or_sane),
		cmocka_unit_test(flipped_bits_are_refused_or_mean_what_they_say),
		cmocka_unit_test(types_that_are_no_message),
		cmocka_unit_test(only_one_form_of_a_message),
		cmocka_unit_test(memory_of_parsing_is_bounded),
		cmocka_unit_test(versions_meet),
		cmocka_unit_test(kinds_of_trees_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
