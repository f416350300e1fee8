#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>

#include "criu-glue/limits.h"
#include "engine/base/cleanup.h"
#include "engine/base/fd.h"

static const char sample[] =
	"Limit                     Soft Limit           Hard Limit           Units     \n"
	"Max cpu time              unlimited            unlimited            seconds   \n"
	"Max stack size            8388608              unlimited            bytes     \n"
	"Max open files            1024                 524288               files     \n"
	"Max file locks            unlimited            unlimited            locks     \n"
	"Max nice priority         0                    0                    \n"
	"Max realtime timeout      18446744073709551614 unlimited            us        \n";

static void values(void **state)
{
	struct limits l;

	(void)state;
	assert_int_equal(limits_parse(sample, RLIMIT_NOFILE, &l), 0);
	assert_true(l.soft == 1024 && l.hard == 524288);
	assert_int_equal(limits_parse(sample, RLIMIT_STACK, &l), 0);
	assert_true(l.soft == 8388608 && l.hard == LIMITS_UNLIMITED);
	assert_int_equal(limits_parse(sample, RLIMIT_NICE, &l), 0);
	assert_true(l.soft == 0 && l.hard == 0);
	assert_int_equal(limits_parse(sample, RLIMIT_RTTIME, &l), 0);
	assert_true(l.soft == UINT64_MAX - 1 && l.hard == LIMITS_UNLIMITED);
}

static void refusals(void **state)
{
	static const char *const broken[] = {
		"", "Max open files", "Max open files            1024", "Max open files  \n 1 2 \n",
		"Max open files            1024                 many ",
		"Max open files            99999999999999999999 1 ", "Max open files            -1 1 ",
		"Max open files            unlimitedly 1 ", " Max open files            1 1 ",
	};
	struct limits l = { 7, 7 };

	(void)state;
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++)
		assert_int_equal(limits_parse(broken[i], RLIMIT_NOFILE, &l), -EPROTO);
	assert_int_equal(limits_parse(sample, RLIM_NLIMITS, &l), -EINVAL);
	assert_int_equal(limits_parse(sample, RLIMIT_AS, &l), -EPROTO);
	assert_true(l.soft == 7 && l.hard == 7);
}

/* The kernel's own text says what getrlimit(2) says, for every resource. */
static void as_the_kernel_says(void **state)
{
	CLEANUP(freep) char *text = NULL;
	struct rlimit64 want;
	struct limits l;
	struct error err;

	(void)state;
	assert_int_equal(fd_read_file_at(AT_FDCWD, "/proc/self/limits", 8192, &text, NULL, &err), 0);
	for (unsigned i = 0; i < RLIM_NLIMITS; i++) {
		assert_int_equal(getrlimit64((__rlimit_resource_t)i, &want), 0);
		assert_int_equal(limits_parse(text, i, &l), 0);
		assert_true(l.soft == want.rlim_cur && l.hard == want.rlim_max);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values),
		cmocka_unit_test(refusals),
		cmocka_unit_test(as_the_kernel_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
