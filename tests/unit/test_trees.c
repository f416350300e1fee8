#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>

#include "migrate/trees.h"

static void *libarchive(void)
{
	return dlopen("libarchive.so.13", RTLD_LAZY | RTLD_NOLOAD);
}

static void libarchive_is_there_before_the_first_tree(void **state)
{
	(void)state;
	assert_null(libarchive());
	trees_warm_up();
	assert_non_null(libarchive());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(libarchive_is_there_before_the_first_tree),
	};

	return cmocka_run_group_tests_name("trees", tests, NULL, NULL);
}
