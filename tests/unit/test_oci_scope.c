#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/cleanup.h"
#include "engine/oci/oci_scope.h"

static void expect_name(const char *path, const char *slice, const char *unit)
{
	CLEANUP(freep) char *got_slice = NULL, *got_unit = NULL;
	struct error err;

	if (oci_scope_name(path, "web", &got_slice, &got_unit, &err) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(got_slice, slice);
	assert_string_equal(got_unit, unit);
}

static void names_are_those_of_runc(void **state)
{
	(void)state;
	expect_name(NULL, "system.slice", "godwit-oci-web.scope");
	expect_name("", "system.slice", "godwit-oci-web.scope");
	expect_name("machine.slice:libpod:4f", "machine.slice", "libpod-4f.scope");
	expect_name(":cri:4f", "system.slice", "cri-4f.scope");
	expect_name("a-b.slice::4f", "a-b.slice", "4f.scope");
}

static void what_is_no_name_is_refused(void **state)
{
	static const char *const bad[] = {
		"/a/path", "a.slice:b", "a.slice:b:", "a:b:c", "a.slice:b:c:d", "a.slice:b:c.slice", "a.slice:b:c/d",
		"a.slice:b:c d", "a b.slice:b:c", ":",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		CLEANUP(freep) char *slice = NULL, *unit = NULL;
		struct error err = { 0 };

		assert_int_equal(oci_scope_name(bad[i], "web", &slice, &unit, &err), -EINVAL);
		assert_non_null(strstr(err.msg, "linux.cgroupsPath"));
	}
}

static size_t print(const struct systemd_property *p, char *out, size_t size)
{
	size_t n = (size_t)snprintf(out, size, "%s=%c:", p->name, p->type);

	if (p->type == 's')
		return n + (size_t)snprintf(out + n, size - n, "%s\n", p->text);
	if (p->type != 'y')
		return n + (size_t)snprintf(out + n, size - n, "%lld\n", (long long)p->number);
	for (size_t i = 0; i < p->len; i++)
		n += (size_t)snprintf(out + n, size - n, "%02x", (unsigned)(uint8_t)p->text[i]);
	return n + (size_t)snprintf(out + n, size - n, "\n");
}

static void print_all(const struct systemd_properties *p, char *out, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++)
		n += print(&p->items[i], out + n, size - n);
}

static int limits(const char *text, bool v2, char *out, size_t size, struct error *err)
{
	CLEANUP(oci_arena_freep) struct oci_arena *a = NULL;
	struct systemd_properties p;
	struct oci_resources *r;

	assert_int_equal(oci_arena_new(&a, err), 0);
	assert_int_equal(oci_resources_parse(a, text, strlen(text), &r, err), 0);
	if (oci_scope_limits(a, r, v2, &p, err) < 0)
		return -err->code;
	print_all(&p, out, size);
	return 0;
}

static void expect_limits(const char *text, bool v2, const char *wanted)
{
	char got[1024] = "";
	struct error err;

	if (limits(text, v2, got, sizeof(got), &err) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(got, wanted);
}

static void limits_of_both_kinds(void **state)
{
	static const char memory[] = "{\"memory\": {\"limit\": 1000, \"reservation\": 500, \"swap\": 1500}}";
	static const char cpu[] = "{\"cpu\": {\"shares\": 1024, \"quota\": 5000, \"period\": 20000,"
				  " \"cpus\": \"0-2,9\", \"mems\": \"0\"}, \"pids\": {\"limit\": 9}}";

	(void)state;
	expect_limits(memory, true, "MemoryMax=t:1000\nMemoryLow=t:500\nMemorySwapMax=t:500\n");
	expect_limits(memory, false, "MemoryLimit=t:1000\n");
	expect_limits("{\"memory\": {\"limit\": -1, \"swap\": -1}}", true, "MemoryMax=t:-1\nMemorySwapMax=t:-1\n");
	expect_limits(cpu, true, "TasksMax=t:9\nCPUWeight=t:39\nCPUQuotaPeriodUSec=t:20000\n"
		      "CPUQuotaPerSecUSec=t:250000\nAllowedCPUs=y:0702\nAllowedMemoryNodes=y:01\n");
	expect_limits(cpu, false, "TasksMax=t:9\nCPUShares=t:1024\nCPUQuotaPeriodUSec=t:20000\n"
		      "CPUQuotaPerSecUSec=t:250000\n");
	expect_limits("{\"cpu\": {\"quota\": -1}, \"pids\": {\"limit\": -1}}", true,
		      "TasksMax=t:-1\nCPUQuotaPeriodUSec=t:100000\nCPUQuotaPerSecUSec=t:-1\n");
}

static void sets_that_are_none_are_refused(void **state)
{
	static const char *const bad[] = { "x", "3-1", "1-", "9999", "1;2" };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		char text[64], out[64];
		struct error err = { 0 };

		(void)snprintf(text, sizeof(text), "{\"cpu\": {\"cpus\": \"%s\"}}", bad[i]);
		assert_int_equal(limits(text, true, out, sizeof(out), &err), -EINVAL);
		assert_non_null(strstr(err.msg, "cpu.cpus"));
	}
}

static int annotation(const char *name, const char *value, char *out, size_t size, struct error *err)
{
	CLEANUP(oci_spec_freep) struct oci_spec *s = NULL;
	struct systemd_properties p;
	char text[512];

	(void)snprintf(text, sizeof(text), "{\"ociVersion\": \"1.1.0\", \"root\": {\"path\": \"r\"}, \"linux\": {},"
		       " \"annotations\": {\"other\": \"x\", \"org.systemd.property.%s\": \"%s\"}}", name, value);
	if (oci_spec_parse(text, strlen(text), &s, err) < 0)
		fail_msg("%s", err->msg);
	if (oci_scope_properties(s, true, &p, err) < 0)
		return -err->code;
	print_all(&p, out, size);
	return 0;
}

static void annotations_are_properties(void **state)
{
	static const char *const good[][3] = {
		{ "KillMode", "'mixed'", "KillMode=s:mixed\n" }, { "SendSIGHUP", "true", "SendSIGHUP=b:1\n" },
		{ "TimeoutStopUSec", "uint64 5", "TimeoutStopUSec=t:5\n" },
		{ "TimeoutStopSec", "7", "TimeoutStopUSec=t:7000000\n" },
		{ "KillSignal", "-1", "KillSignal=i:-1\n" }, { "CPUWeight", "uint32 3", "CPUWeight=u:3\n" },
	};
	static const char *const bad[][2] = {
		{ "KillMode", "mixed" }, { "KillMode", "'a'b'" }, { "KillMode", "'" }, { "After", "['a']" },
		{ "x", "true" }, { "Kill-Mode", "true" }, { "TimeoutStopSec", "'a'" }, { "CPUWeight", "uint64 -1" },
		{ "CPUWeight", "uint64 " },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		char out[128] = "";
		struct error err;

		if (annotation(good[i][0], good[i][1], out, sizeof(out), &err) < 0)
			fail_msg("%s", err.msg);
		assert_string_equal(out, good[i][2]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		char out[128];
		struct error err = { 0 };

		assert_int_equal(annotation(bad[i][0], bad[i][1], out, sizeof(out), &err), -EINVAL);
		assert_non_null(strstr(err.msg, bad[i][0]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_those_of_runc),
		cmocka_unit_test(what_is_no_name_is_refused),
		cmocka_unit_test(limits_of_both_kinds),
		cmocka_unit_test(sets_that_are_none_are_refused),
		cmocka_unit_test(annotations_are_properties),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
