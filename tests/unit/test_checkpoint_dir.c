#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/stat.h>

#include "migrate/checkpoint/checkpoint_dir.h"
#include "tests/unit/node_fixture.h"

static struct error err;

static const char *path_in(const struct home *h, const char *name)
{
	static char path[512];

	(void)snprintf(path, sizeof(path), "%s/%s", h->node->path, name);
	return path;
}

static bool is_there(const struct home *h, const char *name)
{
	struct stat st;

	return stat(path_in(h, name), &st) == 0;
}

static void appears_when_it_is_whole(void **state)
{
	const struct home *h = *state;
	CLEANUP(checkpoint_dir_closep) struct checkpoint_dir d = CHECKPOINT_DIR_EMPTY;

	OK(checkpoint_dir_create(path_in(h, "c/"), &d, &err));
	OK(fd_replace_file_at(d.fd, "file", "x", 1, 0600, FD_REPLACE, &err));
	assert_true(is_there(h, ".c.partial/file") && !is_there(h, "c"));
	OK(checkpoint_dir_sync(&d, &err));
	OK(checkpoint_dir_appear(&d, &err));
	assert_true(is_there(h, "c/file") && !is_there(h, ".c.partial"));
	checkpoint_dir_discard(&d);		/* it has its name: nothing happens */
	assert_true(is_there(h, "c/file"));
}

static void one_at_a_time(void **state)
{
	const struct home *h = *state;
	CLEANUP(checkpoint_dir_closep) struct checkpoint_dir d = CHECKPOINT_DIR_EMPTY, e = CHECKPOINT_DIR_EMPTY;

	OK(checkpoint_dir_create(path_in(h, "c"), &d, &err));
	OK(fd_replace_file_at(d.fd, "file", "x", 1, 0600, FD_REPLACE, &err));
	FAILS(checkpoint_dir_create(path_in(h, "c"), &e, &err), EBUSY, "another checkpoint");
	assert_true(is_there(h, ".c.partial/file"));
	/* its process was killed: nobody holds it any more */
	checkpoint_dir_closep(&d);
	OK(checkpoint_dir_create(path_in(h, "c"), &e, &err));
	assert_false(is_there(h, ".c.partial/file"));
	checkpoint_dir_discard(&e);
	assert_false(is_there(h, ".c.partial"));
}

static void places_that_are_no_good(void **state)
{
	const struct home *h = *state;
	struct checkpoint_dir d = CHECKPOINT_DIR_EMPTY;
	char name[300] = "";

	OK(fd_replace_file_at(h->node->state_fd, "file", "x", 1, 0600, FD_REPLACE, &err));
	FAILS(checkpoint_dir_create(path_in(h, "file"), &d, &err), EEXIST, "exists already");
	FAILS(checkpoint_dir_create(path_in(h, "."), &d, &err), EEXIST, "exists already");
	FAILS(checkpoint_dir_create("/", &d, &err), EEXIST, "exists already");
	FAILS(checkpoint_dir_create("", &d, &err), EEXIST, "checkpoint directory");
	FAILS(checkpoint_dir_create(path_in(h, "no/such"), &d, &err), ENOENT, "No such file");
	memset(name, 'x', sizeof(name) - 1);
	FAILS(checkpoint_dir_create(path_in(h, name), &d, &err), ENAMETOOLONG, "too long");
	assert_int_equal(d.fd, -EBADF);
}

/* Whatever came under its name meanwhile stays as it is. */
static void the_name_is_taken_meanwhile(void **state)
{
	const struct home *h = *state;
	CLEANUP(checkpoint_dir_closep) struct checkpoint_dir d = CHECKPOINT_DIR_EMPTY;
	CLEANUP(fd_closep) int other = -EBADF;

	OK(checkpoint_dir_create(path_in(h, "c"), &d, &err));
	OK(fd_open_dir_at(h->node->state_fd, "c", true, 0700, &other, &err));
	OK(fd_replace_file_at(other, "of somebody else", "x", 1, 0600, FD_REPLACE, &err));
	assert_true(checkpoint_dir_appear(&d, &err) < 0);
	assert_true(is_there(h, "c/of somebody else"));
	checkpoint_dir_discard(&d);
	assert_true(is_there(h, "c/of somebody else") && !is_there(h, ".c.partial"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(appears_when_it_is_whole, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(one_at_a_time, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(places_that_are_no_good, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(the_name_is_taken_meanwhile, home_setup, home_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
