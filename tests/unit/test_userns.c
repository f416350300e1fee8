#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/child.h"
#include "engine/base/cleanup.h"
#include "engine/userns.h"

static void an_id_is_found_in_both_directions(void **state)
{
	struct id_map map = { 0 };
	struct error err;

	(void)state;
	assert_int_equal(id_map_host(&map, 17), 17);
	assert_int_equal(id_map_container(&map, 17), 17);
	assert_int_equal(id_map_add(&map, 0, 100000, 1000, &err), 0);
	assert_int_equal(id_map_add(&map, 65534, 7, 1, &err), 0);
	assert_int_equal(id_map_host(&map, 0), 100000);
	assert_int_equal(id_map_host(&map, 999), 100999);
	assert_int_equal(id_map_host(&map, 1000), ID_NONE);
	assert_int_equal(id_map_host(&map, 65534), 7);
	assert_int_equal(id_map_container(&map, 100999), 999);
	assert_int_equal(id_map_container(&map, 101000), ID_NONE);
	assert_int_equal(id_map_container(&map, 0), ID_NONE);
}

static void ranges_are_checked(void **state)
{
	static const struct { uint64_t inside, host, size; } bad[] = {
		{ 0, 0, 0 }, { 0, 0, UINT64_C(1) << 32 }, { UINT32_MAX, 0, 1 }, { 0, UINT32_MAX, 1 },
		{ UINT64_MAX, 0, 1 }, { 0, UINT64_MAX, 2 }, { 4294967000, 5, 1000 },
		{ 15, 900, 1 }, { 0, 5000, 11 }, { 100, 1009, 1 }, { 100, 991, 10 },	/* overlap */
	};
	struct id_map map = { 0 };
	struct error err;

	(void)state;
	assert_int_equal(id_map_add(&map, 10, 1000, 10, &err), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(id_map_add(&map, bad[i].inside, bad[i].host, bad[i].size, &err), -EINVAL);
	assert_int_equal(id_map_add(&map, 20, 1010, 4, &err), 0);
	for (uint32_t i = 2; i < ID_RANGES_MAX; i++)
		assert_int_equal(id_map_add(&map, 100 + i, 2000 + i, 1, &err), 0);
	assert_int_equal(id_map_add(&map, 9, 9, 1, &err), -E2BIG);
}

static void root_must_be_somebody(void **state)
{
	struct userns u = { 0 };
	struct error err;

	(void)state;
	assert_int_equal(userns_check(&u, &err), 0);
	assert_false(userns_is_own(&u));
	assert_int_equal(id_map_add(&u.uids, 0, 100000, 10, &err), 0);
	assert_int_equal(userns_check(&u, &err), -EINVAL);
	assert_int_equal(id_map_add(&u.gids, 1, 100000, 10, &err), 0);
	assert_int_equal(userns_check(&u, &err), -EINVAL);
	assert_int_equal(id_map_add(&u.gids, 0, 200000, 1, &err), 0);
	assert_int_equal(userns_check(&u, &err), 0);
	assert_true(userns_is_own(&u));
}

static int be_inside(void *ctx, struct error *err)
{
	const int *user = ctx;

	if (userns_enter(*user, err) < 0)
		return -err->code;
	return getuid() == 0 && getgid() == 0 && setresuid(9, 9, 9) == 0 && setresuid(10, 10, 10) < 0 ? 0 :
		error_set(err, EINVAL, "it has other ids");
}

static int work_for(void *ctx, struct error *err)
{
	if (userns_work_for(ctx, err) < 0)
		return -err->code;
	if (getuid() != 100000 || getgid() != 200000)
		return error_set(err, EINVAL, "it has other ids");
	return unshare(CLONE_NEWUTS) < 0 ? error_set(err, errno, "a right of root is gone") : 0;
}

static void one_is_made_and_entered(void **state)
{
	CLEANUP(fd_closep) int user = -EBADF, net = -EBADF;
	struct userns u = { 0 };
	struct error err;

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(id_map_add(&u.uids, 0, 100000, 10, &err), 0);
	assert_int_equal(id_map_add(&u.gids, 0, 200000, 10, &err), 0);
	assert_int_equal(userns_create(&u, &user, &net, &err), 0);
	assert_true(user >= 0 && net >= 0);
	assert_int_equal(child_do(be_inside, &user, &err), 0);
	assert_int_equal(child_do(work_for, &u, &err), 0);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);	/* nobody is left */
	assert_int_equal(errno, ECHILD);
}

static int refuse(void *ctx, struct error *err)
{
	return error_set(err, ENOTDIR, "%s", (const char *)ctx);
}

static int die(void *ctx, struct error *err)
{
	(void)ctx;
	(void)err;
	abort();
}

static void the_error_of_a_child_is_ours(void **state)
{
	struct error err = { 0 };
	char words[] = "words";

	(void)state;
	assert_int_equal(child_do(refuse, words, &err), -ENOTDIR);
	assert_string_equal(err.msg, "words");
	assert_int_equal(child_do(die, NULL, &err), -EIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_id_is_found_in_both_directions),
		cmocka_unit_test(ranges_are_checked),
		cmocka_unit_test(root_must_be_somebody),
		cmocka_unit_test(one_is_made_and_entered),
		cmocka_unit_test(the_error_of_a_child_is_ours),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
