#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/process.h"

struct found {
	uint32_t uid, gid;
	uint32_t *groups;
	size_t n;
	char home[256];
	struct error err;
};

/* A root file system with two accounts; made anew for each test. */
static char root_path[] = "/tmp/godwit-process-XXXXXX";

static void put(const char *path, const char *text)
{
	CLEANUP(fd_closep) int dir = open(root_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct error err;

	assert_int_equal(fd_replace_file_at(dir, path, text, strlen(text), 0644, FD_REPLACE, &err), 0);
}

static int make_root(void **state)
{
	char path[64];

	(void)state;
	memcpy(root_path, "/tmp/godwit-process-XXXXXX", sizeof(root_path));
	if (!mkdtemp(root_path))
		return -1;
	(void)snprintf(path, sizeof(path), "%s/etc", root_path);
	return mkdir(path, 0755);
}

static int drop_root(void **state)
{
	struct error err;

	(void)state;
	return fd_remove_tree_at(AT_FDCWD, root_path, &err);
}

static void put_accounts(void)
{
	CLEANUP(fd_closep) int etc = -EBADF;
	char path[64];
	struct error err;
	static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\nredis:x:101:102::/var/lib/redis:/bin/false\n";
	static const char group[] = "root:x:0:\nredis:x:102:\ntty:x:5:other,redis\naudio:x:29:redis\n";

	(void)snprintf(path, sizeof(path), "%s/etc", root_path);
	etc = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(fd_replace_file_at(etc, "passwd", passwd, sizeof(passwd) - 1, 0644, FD_REPLACE, &err), 0);
	assert_int_equal(fd_replace_file_at(etc, "group", group, sizeof(group) - 1, 0644, FD_REPLACE, &err), 0);
}

static int find(const char *text, struct found *f)
{
	CLEANUP(fd_closep) int root = open(root_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	*f = (struct found){ 0 };
	return process_find_user(root, text, &f->uid, &f->gid, &f->groups, &f->n, f->home, &f->err);
}

static void by_name_with_its_groups(void **state)
{
	struct found f;

	(void)state;
	put_accounts();
	assert_int_equal(find("redis", &f), 0);
	assert_int_equal(f.uid, 101);
	assert_int_equal(f.gid, 102);
	assert_int_equal(f.n, 2);
	assert_int_equal(f.groups[0], 5);
	assert_int_equal(f.groups[1], 29);
	assert_string_equal(f.home, "/var/lib/redis");
	free(f.groups);
}

static void by_number_and_with_a_group(void **state)
{
	static const struct { const char *text; uint32_t uid, gid; const char *home; } cases[] = {
		{ "0", 0, 0, "/root" }, { "", 0, 0, "/root" }, { "4242", 4242, 0, "/" },
		{ "redis:tty", 101, 5, "/var/lib/redis" }, { "4242:4343", 4242, 4343, "/" },
		{ "root:29", 0, 29, "/root" },
	};

	(void)state;
	put_accounts();
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct found f;

		assert_int_equal(find(cases[i].text, &f), 0);
		assert_int_equal(f.uid, cases[i].uid);
		assert_int_equal(f.gid, cases[i].gid);
		assert_string_equal(f.home, cases[i].home);
		free(f.groups);
	}
}

static void who_is_not_there_is_named(void **state)
{
	struct found f;

	(void)state;
	put_accounts();
	assert_int_equal(find("nobody-here", &f), -EINVAL);
	assert_non_null(strstr(f.err.msg, "'nobody-here'"));
	assert_int_equal(find("redis:no-group", &f), -EINVAL);
	assert_non_null(strstr(f.err.msg, "'no-group'"));
	assert_int_equal(find("-1", &f), -EINVAL);
	assert_int_equal(find("4294967295", &f), -EINVAL);
	assert_int_equal(find("12x", &f), -EINVAL);
}

static void a_root_without_accounts_takes_numbers(void **state)
{
	struct found f;

	(void)state;
	assert_int_equal(find("1000:1000", &f), 0);
	assert_int_equal(f.uid, 1000);
	assert_int_equal(find("root", &f), -EINVAL);
}

/* A link in the image must not read the accounts of the host. */
static void links_stay_inside(void **state)
{
	struct found f;
	char path[64];

	(void)state;
	put("secret", "evil:x:7:7::/:/bin/sh\n");
	(void)snprintf(path, sizeof(path), "%s/etc/passwd", root_path);
	assert_int_equal(symlink("/../../secret", path), 0);
	assert_int_equal(find("evil", &f), 0);
	assert_int_equal(f.uid, 7);
	free(f.groups);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(by_name_with_its_groups, make_root, drop_root),
		cmocka_unit_test_setup_teardown(by_number_and_with_a_group, make_root, drop_root),
		cmocka_unit_test_setup_teardown(who_is_not_there_is_named, make_root, drop_root),
		cmocka_unit_test_setup_teardown(a_root_without_accounts_takes_numbers, make_root, drop_root),
		cmocka_unit_test_setup_teardown(links_stay_inside, make_root, drop_root),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
