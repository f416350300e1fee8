#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/cleanup.h"
#include "proto/frame.h"
#include "proto/message.h"

#define TOKEN "0123456789abcdef0123456789abcdef"
#define DIGEST TOKEN TOKEN

static const char *features[] = { "fpu", "sse4_2", "avx2" };
static const char *needs[] = { "cgroup controller memory", "overlayfs" };
static struct message_reason reasons[] = {
	{ "name-taken", "a container named web is there already", "rename one of them" },
	{ "memory", "2 GB are free, 4 GB are needed — zu wenig", "" },
};

static struct message sample_hello(void)
{
	return (struct message){ .type = WIRE_HELLO, .hello = { "godwit 0.1.0", 3, 1, "node-a", TOKEN } };
}

static struct message sample_offer(void)
{
	return (struct message){ .type = WIRE_OFFER, .offer = {
		.token = TOKEN, .name = "web", .config_json = "{\n\t\"args\": [\"ä\"]\n}",
		.state_json = NULL, .image_name = "redis", .image_digest = DIGEST,
		.image_bytes = 1, .image_entries = WIRE_ENTRIES_MAX,
		.memory_bytes = WIRE_BYTES_MAX, .disk_bytes = 0, .arch = "x86_64",
		.kernel_release = "6.18.0+deb", .criu_version = 40101,
		.cpu_features = features, .n_cpu_features = 3, .needs = needs, .n_needs = 2,
		.retry_us = 5, .connections = 2,
	} };
}

static struct message sample_verdict(void)
{
	return (struct message){ .type = WIRE_VERDICT, .verdict = {
		.accepted = false, .reasons = reasons, .n_reasons = 2, .node_name = "node-b",
	} };
}

static struct message sample_tree_begin(void)
{
	return (struct message){ .type = WIRE_TREE_BEGIN,
				 .tree_begin = { MESSAGE_TREE_TMPFS, "/run/..lock", true } };
}

static struct message sample_answer(void)
{
	return (struct message){ .type = WIRE_ANSWER, .answer = { TOKEN, MESSAGE_OUTCOME_LOST } };
}

static struct message sample_restored(void)
{
	static struct message_step steps[] = { { "mounts", 2000 }, { "criu-tasks", 10000 } };

	return (struct message){ .type = WIRE_RESTORED, .restored = { 12000, 4242, steps, 2 } };
}

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

static struct message turn_around(struct message message)
{
	CLEANUP(buffer_free) struct buffer bytes = {};
	struct message back = {};
	struct error err;

	assert_int_equal(message_encode(&message, &bytes, &err), 0);
	assert_int_equal(message_decode(message.type, bytes.data, bytes.len, &back, &err), 0);
	return back;
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

/* Both directions apply the same rules, so a sender shows them. */
static void refused(struct message message, const char *why)
{
	CLEANUP(buffer_free) struct buffer bytes = {};
	struct error err = {};

	assert_int_equal(message_encode(&message, &bytes, &err), -EINVAL);
	assert_int_equal(bytes.len, 0);
	if (!strstr(err.msg, why))
		fail_msg("\"%s\" lacks \"%s\"", err.msg, why);
}

#define BAD(sample, field, value, why) do {			\
	struct message m_ = sample();				\
	m_.field = (value);					\
	refused(m_, why);					\
} while (0)

static char *repeat(char c, size_t n)
{
	char *text = malloc(n + 1);

	assert_non_null(text);
	memset(text, c, n);
	text[n] = '\0';
	return text;
}

static void numbers_have_ranges(void **state)
{
	(void)state;
	BAD(sample_hello, hello.version, 0, "HELLO: version is 0 and must be 1 to 65535");
	BAD(sample_hello, hello.version, 65536, "version");
	BAD(sample_hello, hello.lowest_version, 0, "lowest_version");
	BAD(sample_hello, hello.lowest_version, 4, "lowest_version is above version");
	BAD(sample_offer, offer.image_bytes, WIRE_BYTES_MAX + 1, "image_bytes");
	BAD(sample_offer, offer.image_entries, WIRE_ENTRIES_MAX + 1, "image_entries");
	BAD(sample_offer, offer.memory_bytes, UINT64_MAX, "memory_bytes");
	BAD(sample_offer, offer.disk_bytes, UINT64_MAX, "disk_bytes");
	BAD(sample_offer, offer.criu_version, 0, "criu_version");
	BAD(sample_restored, restored.pid, 0, "RESTORED: pid is 0");
	BAD(sample_restored, restored.pid, 4194305, "pid");
	BAD(sample_restored, restored.restore_us, WIRE_TIME_MAX_US + 1, "restore_us");
	BAD(sample_tree_begin, tree_begin.kind, 0, "kind is 0 and must be 1 to 7");
	BAD(sample_tree_begin, tree_begin.kind, 8, "kind");
	BAD(sample_answer, answer.outcome, 0, "outcome");
	BAD(sample_answer, answer.outcome, 6, "outcome");
}

static void texts_have_limits(void **state)
{
	CLEANUP(freep) char *name = repeat('n', WIRE_NAME_MAX + 1);
	CLEANUP(freep) char *line = repeat('l', WIRE_LINE_MAX + 1);
	CLEANUP(freep) char *json = repeat(' ', WIRE_JSON_MAX + 1);
	CLEANUP(freep) char *path = repeat('/', WIRE_PATH_MAX + 1);
	CLEANUP(message_free) struct message longest = {};
	struct message fits = sample_offer();

	(void)state;
	BAD(sample_hello, hello.node_name, name, "node_name must be a name");
	BAD(sample_hello, hello.node_id, "", "node_id must be");
	BAD(sample_hello, hello.software, line, "software must be a printable line");
	BAD(sample_hello, hello.software, NULL, "software");
	BAD(sample_offer, offer.config_json, json, "config_json must be UTF-8 text");
	BAD(sample_offer, offer.state_json, json, "state_json");
	BAD(sample_offer, offer.config_json, "", "config_json");
	BAD(sample_tree_begin, tree_begin.label, path, "label");

	fits.offer.name = name + 1;
	fits.offer.kernel_release = line + 1;
	fits.offer.config_json = json + 1;
	fits.offer.state_json = json + 1;
	longest = turn_around(fits);
	assert_string_equal(longest.offer.state_json, json + 1);
}

static void names_tokens_and_digests_have_alphabets(void **state)
{
	static const char *const bad_names[] = {
		"", ".web", "-rf", "_x", "a/b", "..", "a b", "a\n", "\033[2J", "wéb",
	};
	static const char *const bad_tokens[] = {
		"", "0123456789abcdef0123456789abcde", TOKEN "0",
		"0123456789ABCDEF0123456789abcdef", "0123456789abcdef0123456789abcde/",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad_names) / sizeof(bad_names[0]); i++)
		BAD(sample_offer, offer.name, bad_names[i], "OFFER: name must be a name");
	for (size_t i = 0; i < sizeof(bad_tokens) / sizeof(bad_tokens[0]); i++) {
		BAD(sample_offer, offer.token, bad_tokens[i], "token must be 32 lower-case hex");
		BAD(sample_answer, answer.token, bad_tokens[i], "token");
	}
	BAD(sample_offer, offer.image_digest, TOKEN, "image_digest must be 64 lower-case hex");
}

/* What a terminal could obey or misread, and what is no UTF-8. */
static const char *const bad_lines[] = {
	"\033[31mred", "bell\a", "two\nlines", "tab\t", "del\x7f", "c1\xc2\x9b" "31m",
	"\xe2\x80\xa8", "\xe2\x80\xae" "txt.exe", "\xe2\x81\xa6", "\xd8\x9c",
	"\xff", "\xc3", "\xc3(", "\x80", "\xc0\xaf", "\xc1\xbf", "\xe0\x80\xaf",
	"\xed\xa0\x80", "\xf0\x80\x80\xaf", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80",
	"\xe2\x82", "\xf0\x9f\x98",
};

static void nothing_reaches_a_terminal(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad_lines) / sizeof(bad_lines[0]); i++) {
		struct message_reason reason = { "code", bad_lines[i], "" };

		BAD(sample_hello, hello.software, bad_lines[i], "software");
		BAD(sample_offer, offer.kernel_release, bad_lines[i], "kernel_release");
		refused((struct message){ .type = WIRE_ABORT,
					  .abort = { "code", "message", bad_lines[i] } }, "state");
		refused((struct message){ .type = WIRE_VERDICT,
					  .verdict = { .reasons = &reason, .n_reasons = 1,
						       .node_name = "b" } }, "reasons 0: message");
	}
	BAD(sample_offer, offer.config_json, "{\"a\":\"\033\"}", "config_json");
	BAD(sample_offer, offer.config_json, "\xc3(", "config_json");
}

static void good_lines_pass(void **state)
{
	static const char *const lines[] = {
		"plain", "größer", "日本語", "😀", "\xed\x9f\xbf", "\xee\x80\x80", "\xf4\x8f\xbf\xbd",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct message hello = sample_hello();
		CLEANUP(message_free) struct message back = {};

		hello.hello.software = lines[i];
		back = turn_around(hello);
		assert_string_equal(back.hello.software, lines[i]);
	}
}

static void lists_have_limits(void **state)
{
	static const char *many[WIRE_CPU_FEATURES_MAX + 1];
	static struct message_reason many_reasons[WIRE_REASONS_MAX + 1];
	CLEANUP(message_free) struct message back = {};
	struct message offer = sample_offer(), verdict = sample_verdict();

	(void)state;
	for (size_t i = 0; i < WIRE_CPU_FEATURES_MAX + 1; i++)
		many[i] = "feature";
	for (size_t i = 0; i < WIRE_REASONS_MAX + 1; i++)
		many_reasons[i] = reasons[0];
	offer.offer.cpu_features = many;
	offer.offer.n_cpu_features = WIRE_CPU_FEATURES_MAX + 1;
	refused(offer, "1025 cpu_features; the most is 1024");
	offer.offer.n_cpu_features = WIRE_CPU_FEATURES_MAX;
	back = turn_around(offer);
	assert_int_equal(back.offer.n_cpu_features, WIRE_CPU_FEATURES_MAX);

	offer.offer.needs = many;
	offer.offer.n_needs = WIRE_NEEDS_MAX + 1;
	refused(offer, "257 needs");
	offer.offer.n_needs = 1;
	many[0] = "";
	offer.offer.n_cpu_features = 0;
	refused(offer, "needs 0 must be");
	verdict.verdict.reasons = many_reasons;
	verdict.verdict.n_reasons = WIRE_REASONS_MAX + 1;
	refused(verdict, "65 reasons; the most is 64");
}

static void fields_fit_together(void **state)
{
	static const char *const paths[] = {
		"", "run", "/", "//", "/run/", "/run//x", "/./x", "/..", "/a/../b", "/a/.",
	};
	struct message verdict = sample_verdict();

	(void)state;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		BAD(sample_tree_begin, tree_begin.label, paths[i], "absolute mount point");
	BAD(sample_verdict, verdict.n_reasons, 0, "a refusal needs a reason");
	BAD(sample_verdict, verdict.image_wanted, true, "can't want the image");
	verdict.verdict.accepted = true;
	verdict.verdict.image_wanted = true;
	message_free(&(struct message){});
	verdict = turn_around(verdict);
	assert_true(verdict.verdict.image_wanted);
	message_free(&verdict);
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
		cmocka_unit_test(numbers_have_ranges),
		cmocka_unit_test(texts_have_limits),
		cmocka_unit_test(names_tokens_and_digests_have_alphabets),
		cmocka_unit_test(nothing_reaches_a_terminal),
		cmocka_unit_test(good_lines_pass),
		cmocka_unit_test(lists_have_limits),
		cmocka_unit_test(fields_fit_together),
		cmocka_unit_test(types_that_are_no_message),
		cmocka_unit_test(only_one_form_of_a_message),
		cmocka_unit_test(memory_of_parsing_is_bounded),
		cmocka_unit_test(versions_meet),
		cmocka_unit_test(kinds_of_trees_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
