/* What no message may hold, whoever sends it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/cleanup.h"
#include "tests/unit/message_fixture.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_have_ranges),
		cmocka_unit_test(texts_have_limits),
		cmocka_unit_test(names_tokens_and_digests_have_alphabets),
		cmocka_unit_test(nothing_reaches_a_terminal),
		cmocka_unit_test(good_lines_pass),
		cmocka_unit_test(lists_have_limits),
		cmocka_unit_test(fields_fit_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
