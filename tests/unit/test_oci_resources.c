#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/oci/oci_resources.h"

/* All files and values of a document, one a line. */
static int plan(const char *text, bool pure_v2, char *out, size_t size, struct error *err)
{
	CLEANUP(oci_arena_freep) struct oci_arena *a = NULL;
	struct oci_resources *r;
	struct oci_settings s;
	size_t n = 0;

	assert_int_equal(oci_arena_new(&a, err), 0);
	if (oci_resources_parse(a, text, strlen(text), &r, err) < 0 || oci_resources_plan(a, r, pure_v2, &s, err) < 0)
		return -err->code;
	for (size_t i = 0; i < s.n; i++)
		n += (size_t)snprintf(out + n, size - n, "%s=%s\n", s.items[i].setting.file,
			s.items[i].setting.value);
	return 0;
}

static void expect(const char *text, bool pure_v2, const char *wanted)
{
	char got[4096] = "";
	struct error err = { 0 };

	if (plan(text, pure_v2, got, sizeof(got), &err) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(got, wanted);
}

static void expect_refused(const char *text, bool pure_v2, const char *words)
{
	char got[4096] = "";
	struct error err = { 0 };

	assert_true(plan(text, pure_v2, got, sizeof(got), &err) < 0);
	if (!strstr(err.msg, words))
		fail_msg("'%s' has no '%s'", err.msg, words);
}

#define MEMORY "{\"memory\": {\"limit\": 1000, \"reservation\": 500, \"swap\": 1500}}"
#define CPU "{\"cpu\": {\"shares\": 1024, \"quota\": 5000, \"period\": 20000, \"burst\": 7, \"cpus\": \"0-1\"," \
	    " \"mems\": \"0\", \"idle\": 1}, \"pids\": {\"limit\": -1}}"

static void memory_of_both_kinds(void **state)
{
	(void)state;
	expect(MEMORY, true, "memory.max=1000\nmemory.low=500\nmemory.swap.max=500\n");
	expect(MEMORY, false, "memory.limit_in_bytes=1000\nmemory.soft_limit_in_bytes=500\n"
	       "memory.memsw.limit_in_bytes=1500\n");
	expect("{\"memory\": {\"limit\": -1, \"swap\": -1}}", true, "memory.max=max\nmemory.swap.max=max\n");
	expect_refused("{\"memory\": {\"swap\": 5}}", true, "memory.swap");
	expect_refused("{\"memory\": {\"limit\": 6, \"swap\": 5}}", true, "memory.swap");
}

static void processors_of_both_kinds(void **state)
{
	(void)state;
	expect(CPU, true, "cpuset.cpus=0-1\ncpuset.mems=0\ncpu.weight=39\ncpu.max=5000 20000\ncpu.max.burst=7\n"
	       "cpu.idle=1\npids.max=max\n");
	expect(CPU, false, "cpuset.cpus=0-1\ncpuset.mems=0\ncpu.shares=1024\ncpu.cfs_period_us=20000\n"
	       "cpu.cfs_quota_us=5000\ncpu.cfs_burst_us=7\ncpu.idle=1\npids.max=max\n");
	expect("{\"cpu\": {\"period\": 50000}}", true, "cpu.max=max 50000\n");
	expect("{\"cpu\": {\"shares\": 1000000}}", true, "cpu.weight=10000\n");
}

static void disks_of_both_kinds(void **state)
{
	const char *weights = "{\"blockIO\": {\"weight\": 10, \"weightDevice\": [{\"major\": 8, \"minor\": 1,"
			      " \"weight\": 20}], \"throttleReadBpsDevice\": [{\"major\": 8, \"minor\": 0,"
			      " \"rate\": 18446744073709551615}]}}";

	(void)state;
	expect(weights, true, "io.bfq.weight=10\nio.bfq.weight=8:1 20\nio.max=8:0 rbps=18446744073709551615\n");
	expect(weights, false,
		"blkio.weight=10\nblkio.weight_device=8:1 20\n"
		"blkio.throttle.read_bps_device=8:0 18446744073709551615\n");
	expect("{\"blockIO\": {\"throttleWriteIOPSDevice\": [{\"major\": 8, \"minor\": 0, \"rate\": 0}]}}", true,
	       "io.max=8:0 wiops=max\n");	/* lifted */
	expect_refused("{\"blockIO\": {\"weight\": 1001}}", true, "blockIO.weight");
}

static void others_of_both_kinds(void **state)
{
	const char *huge = "{\"hugepageLimits\": [{\"pageSize\": \"2MB\", \"limit\": 4096}]}";
	const char *rdma = "{\"rdma\": {\"mlx5\": {\"hcaHandles\": 3, \"hcaObjects\": 4}}}";

	(void)state;
	expect(huge, true, "hugetlb.2MB.max=4096\n");
	expect(huge, false, "hugetlb.2MB.limit_in_bytes=4096\n");
	expect(rdma, true, "rdma.max=mlx5 hca_handle=3 hca_object=4\n");
	expect("{\"network\": {\"classID\": 5, \"priorities\": [{\"name\": \"lo\", \"priority\": 1}]}}", false,
	       "net_cls.classid=5\nnet_prio.ifpriomap=lo 1\n");
	expect("{\"unified\": {\"memory.high\": \"7\"}}", true, "memory.high=7\n");
	expect_refused("{\"hugepageLimits\": [{\"pageSize\": \"../2MB\", \"limit\": 1}]}", true, "hugepageLimits");
}

static void what_v2_has_nothing_for_is_refused_by_name(void **state)
{
	static const char *const v1_only[][2] = {
		{ "{\"memory\": {\"kernel\": 1}}", "linux.resources.memory.kernel" },
		{ "{\"memory\": {\"kernelTCP\": 1}}", "linux.resources.memory.kernelTCP" },
		{ "{\"memory\": {\"swappiness\": 1}}", "linux.resources.memory.swappiness" },
		{ "{\"memory\": {\"disableOOMKiller\": true}}", "linux.resources.memory.disableOOMKiller" },
		{ "{\"cpu\": {\"realtimeRuntime\": 1}}", "linux.resources.cpu.realtimeRuntime" },
		{ "{\"cpu\": {\"realtimePeriod\": 1}}", "linux.resources.cpu.realtimePeriod" },
		{ "{\"blockIO\": {\"leafWeight\": 10}}", "linux.resources.blockIO.leafWeight" },
		{ "{\"network\": {\"classID\": 1}}", "linux.resources.network.classID" },
		{ "{\"network\": {\"priorities\": [{\"name\": \"lo\", \"priority\": 1}]}}", "network.priorities" },
	};
	char ignored[4096];
	struct error err;

	(void)state;
	for (size_t i = 0; i < sizeof(v1_only) / sizeof(*v1_only); i++) {
		expect_refused(v1_only[i][0], true, v1_only[i][1]);
		assert_int_equal(plan(v1_only[i][0], false, ignored, sizeof(ignored), &err), 0);
	}
	expect_refused("{\"colour\": 1}", true, "colour: no such field is known");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_of_both_kinds),
		cmocka_unit_test(processors_of_both_kinds),
		cmocka_unit_test(disks_of_both_kinds),
		cmocka_unit_test(others_of_both_kinds),
		cmocka_unit_test(what_v2_has_nothing_for_is_refused_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
