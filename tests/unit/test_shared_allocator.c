#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/base/fd.h"
#include "migrate/memory/shared_allocator.h"
#include "tests/unit/cgroup_fixture.h"

#define MIB (1024u * 1024u)

static uint64_t used(const struct cgroup *cg)
{
	struct cgroup_usage u = { 0 };
	struct error err;

	assert_int_equal(cgroup_get_usage(cg, &u, &err), 0);
	return u.memory_bytes;
}

static int make_file(size_t size)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

static void pages_count_for_the_cgroup_and_its_limit_holds(void **state)
{
	static const struct cgroup_limits limits = { .memory_bytes = 32 * MIB };
	CLEANUP(shared_allocator_free) struct shared_allocator a = SHARED_ALLOCATOR_EMPTY;
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	CLEANUP(fd_closep) int fd = make_file(64 * MIB);
	struct error err = { 0 };

	(void)state;
	if (!has_controllers())
		skip();
	cg = create("web", &limits);
	a.cgroup = cg;
	for (unsigned i = 0; i < 16; i++)
		if (shared_allocator_take(&a, fd, (uint64_t)i * MIB, MIB, &err) < 0)
			fail_msg("%s", err.msg);
	assert_true(used(cg) >= 16 * MIB);
	/* What is there takes nothing more, whoever writes it. */
	assert_int_equal(shared_allocator_take(&a, fd, 0, 16 * MIB, &err), 0);
	assert_int_equal(pwrite(fd, "x", 1, 0), 1);
	assert_true(used(cg) < 24 * MIB);

	assert_int_equal(shared_allocator_take(&a, fd, 16 * MIB, 48 * MIB, &err), -ENOMEM);
	assert_non_null(strstr(err.msg, "limit"));
	shared_allocator_free(&a);
	fd_close(&fd);
	destroy(cg);
}

static void without_a_cgroup_nothing_happens(void **state)
{
	CLEANUP(shared_allocator_free) struct shared_allocator a = SHARED_ALLOCATOR_EMPTY;
	CLEANUP(fd_closep) int fd = make_file(MIB);
	struct error err = { 0 };

	(void)state;
	assert_int_equal(shared_allocator_take(&a, fd, 0, MIB, &err), 0);
	assert_int_equal(a.helper.pid, 0);
	assert_true(lseek(fd, 0, SEEK_DATA) < 0);
}

static int run_group(const char *layout)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_count_for_the_cgroup_and_its_limit_holds),
		cmocka_unit_test(without_a_cgroup_nothing_happens),
	};

	return cmocka_run_group_tests_name(layout, tests, set_parent, remove_parent);
}

int main(void)
{
	return in_each_layout(run_group);
}
