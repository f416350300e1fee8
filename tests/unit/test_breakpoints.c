#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "criu-glue/breakpoints.h"
#include "engine/base/cleanup.h"
#include "engine/base/fd.h"

static void it_is_an_event_that_counts_nothing(void **state)
{
	CLEANUP(fd_closep) int ready = breakpoints_keep_ready();
	char link[64] = "", path[32];
	uint64_t count = 1;

	(void)state;
	if (ready < 0)
		skip();			/* neither CAP_PERFMON nor a kernel that allows it */
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", ready);
	assert_true(readlink(path, link, sizeof(link) - 1) > 0);
	assert_string_equal(link, "anon_inode:[perf_event]");
	assert_int_equal(read(ready, &count, sizeof(count)), sizeof(count));
	assert_int_equal(count, 0);
	assert_true(fcntl(ready, F_GETFD) & FD_CLOEXEC);
}

static void without_descriptors_there_is_none(void **state)
{
	struct rlimit before, none = { 0 };
	int ready;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none.rlim_max = before.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	ready = breakpoints_keep_ready();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(ready, -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_an_event_that_counts_nothing),
		cmocka_unit_test(without_descriptors_there_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
