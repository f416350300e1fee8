/*
 * message_fixture.h - filled messages, there and back, and those that are refused
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "engine/base/cleanup.h"
#include "proto/message.h"

#define TOKEN "0123456789abcdef0123456789abcdef"
#define DIGEST TOKEN TOKEN

static const char *features[] = { "fpu", "sse4_2", "avx2" };
static const char *needs[] = { "cgroup controller memory", "overlayfs" };
static struct message_reason reasons[] = {
	{ "name-taken", "a container named web is there already", "rename one of them" },
	{ "memory", "2 GB are free, 4 GB are needed — zu wenig", "" },
};

static inline struct message sample_hello(void)
{
	return (struct message){ .type = WIRE_HELLO, .hello = { "godwit 0.1.0", 3, 1, "node-a", TOKEN } };
}

static inline struct message sample_offer(void)
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

static inline struct message sample_verdict(void)
{
	return (struct message){ .type = WIRE_VERDICT, .verdict = {
		.accepted = false, .reasons = reasons, .n_reasons = 2, .node_name = "node-b",
	} };
}

static inline struct message sample_tree_begin(void)
{
	return (struct message){ .type = WIRE_TREE_BEGIN,
				 .tree_begin = { MESSAGE_TREE_TMPFS, "/run/..lock", true } };
}

static inline struct message sample_answer(void)
{
	return (struct message){ .type = WIRE_ANSWER, .answer = { TOKEN, MESSAGE_OUTCOME_LOST } };
}

static inline struct message sample_restored(void)
{
	static struct message_step steps[] = { { "mounts", 2000 }, { "criu-tasks", 10000 } };

	return (struct message){ .type = WIRE_RESTORED, .restored = { 12000, 4242, steps, 2 } };
}

static inline struct message turn_around(struct message message)
{
	CLEANUP(buffer_free) struct buffer bytes = {};
	struct message back = {};
	struct error err;

	assert_int_equal(message_encode(&message, &bytes, &err), 0);
	assert_int_equal(message_decode(message.type, bytes.data, bytes.len, &back, &err), 0);
	return back;
}

/* Both directions apply the same rules, so a sender shows them. */
static inline void refused(struct message message, const char *why)
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
