#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/base/cleanup.h"
#include "engine/cgroup/cgroup.h"
#include "tests/unit/cgroup_fixture.h"

#define MIB (1024u * 1024u)

static void limits_without_a_controller_are_refused(void **state)
{
	const struct cgroup_limits each[] = { { .memory_bytes = 64 * MIB },
					      { .cpu_millis = 500 },
					      { .pids = 10 } };
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	struct cgroup_limits back;
	struct error err;

	(void)state;
	if (has_controllers())
		skip();
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(cgroup_create(parent(), "web", &each[i], &cg, &err), -EOPNOTSUPP);
		assert_false(exists(0, "web", ""));
	}
	cg = create("web", &unlimited);
	assert_int_equal(cgroup_set_limits(cg, &each[0], &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.msg, "memory"));
	assert_int_equal(cgroup_set_limits(cg, &unlimited, &err), 0);
	assert_int_equal(cgroup_get_limits(cg, &back, &err), 0);
	assert_memory_equal(&back, &unlimited, sizeof(back));
	destroy(cg);
}

static void limits_are_read_back(void **state)
{
	const struct cgroup_limits each[] = {
		{ .memory_bytes = 64 * MIB, .cpu_millis = 1500, .pids = 10 },
		{ .memory_bytes = 256 * MIB, .cpu_millis = 10, .pids = 100000 },
		{ .memory_bytes = 32 * MIB },
		{ .cpu_millis = 64000 },
		{ .pids = 1 },
		{ 0 },
	};
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	struct cgroup_limits back, tiny = { .cpu_millis = 9 };
	struct error err;

	(void)state;
	if (!has_controllers())
		skip();
	cg = create("web", &each[0]);
	for (size_t i = 0; i < sizeof(each) / sizeof(*each); i++) {
		if (i && cgroup_set_limits(cg, &each[i], &err) < 0)
			fail_msg("%s", err.msg);
		assert_int_equal(cgroup_get_limits(cg, &back, &err), 0);
		assert_int_equal(back.memory_bytes, each[i].memory_bytes);
		assert_int_equal(back.cpu_millis, each[i].cpu_millis);
		assert_int_equal(back.pids, each[i].pids);
	}
	assert_int_equal(cgroup_set_limits(cg, &tiny, &err), -EINVAL);
	destroy(cg);
	assert_int_equal(cgroup_create(parent(), "web", &tiny, &cg, &err), -EINVAL);
	assert_false(exists(0, "web", ""));
}

static int fork_twice(void *ctx)
{
	(void)ctx;
	for (int i = 0; i < 2; i++) {
		pid_t pid = fork();

		if (pid < 0)
			return errno == EAGAIN ? i : 50;
		if (pid == 0)
			return idle(NULL);
	}
	return 2;
}

static int touch_memory(void *ctx)
{
	size_t len = *(const size_t *)ctx;
	volatile char *p =
		mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (size_t i = 0; i < len; i += 4096)
		p[i] = 1;
	return 7;
}

static void limits_are_in_force(void **state)
{
	const struct cgroup_limits limits = { .memory_bytes = 24 * MIB, .pids = 2 };
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	size_t little = 4 * MIB, much = 64 * MIB;
	struct error err;

	(void)state;
	if (!has_controllers())
		skip();
	cg = create("web", &limits);
	assert_int_equal(wait_for(start_in(cg, fork_twice, NULL)), 1);
	assert_int_equal(cgroup_kill(cg, 5 * SECOND_US, &err), 0);
	assert_int_equal(wait_for(start_in(cg, touch_memory, &little)), 7);
	assert_int_equal(wait_for(start_in(cg, touch_memory, &much)), 1000 + SIGKILL);
	destroy(cg);
}

static void usage_counts(void **state)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = create("web", &unlimited);
	volatile unsigned *n =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct cgroup_usage usage = { 0 };
	struct error err;
	pid_t pid;

	(void)state;
	assert_true(n != MAP_FAILED);
	pid = start_in(cg, count, (void *)(uintptr_t)n);
	while (usage.cpu_us < 20000)
		assert_int_equal(cgroup_get_usage(cg, &usage, &err), 0);
	assert_int_equal(usage.pids, has_controllers() ? 1 : 0);
	if (has_controllers())
		assert_true(usage.memory_bytes > 0);
	destroy(cg);
	assert_int_equal(wait_for(pid), 1000 + SIGKILL);
	assert_int_equal(munmap((void *)(uintptr_t)n, 4096), 0);
}

static int run_group(const char *layout)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits_without_a_controller_are_refused),
		cmocka_unit_test(limits_are_read_back),
		cmocka_unit_test(limits_are_in_force),
		cmocka_unit_test(usage_counts),
	};

	return cmocka_run_group_tests_name(layout, tests, set_parent, remove_parent);
}

int main(void)
{
	return in_each_layout(run_group);
}
