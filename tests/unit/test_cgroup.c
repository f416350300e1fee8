#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/cgroup/cgroup.h"
#include "tests/unit/cgroup_fixture.h"

static void bad_names_are_refused(void **state)
{
	static const char *const parents[] = { "/",    "",	"a",	    "//",
					       "/a/",  "/a//b", "/..",	    "/a/../b",
					       "/./a", "/a/.",	"/.helpers" };
	static const char *const names[] = { "", ".", "..", "a/b", "/", "../x", ".helpers" };
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	struct error err;

	(void)state;
	for (size_t i = 0; i < sizeof(parents) / sizeof(*parents); i++) {
		assert_int_equal(cgroup_create(parents[i], "web", &unlimited, &cg, &err), -EINVAL);
		assert_int_equal(cgroup_open(parents[i], "web", &cg, &err), -EINVAL);
		assert_non_null(strstr(err.msg, parents[i]));
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		assert_int_equal(cgroup_create(parent(), names[i], &unlimited, &cg, &err), -EINVAL);
		assert_int_equal(cgroup_open(parent(), names[i], &cg, &err), -EINVAL);
	}
	assert_int_equal(cgroup_open(parent(), "nobody", &cg, &err), -ENOENT);
	assert_int_equal(cgroup_open("/godwit-no-such-parent", "web", &cg, &err), -ENOENT);
	assert_null(cg);
}

/* A parent that leads into another file system is not ours to fill. */
static void a_parent_of_another_file_system_is_refused(void **state)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = create("web", &unlimited);
	char path[PATH_MAX], below[PATH_MAX];
	struct error err;
	pid_t pid;

	(void)state;
	(void)snprintf(below, sizeof(below), "%s/web", parent());
	pid = fork();
	if (pid == 0) {
		struct cgroup *other = NULL;

		path_of(path, 0, "web", "");
		if (unshare(CLONE_NEWNS) < 0 ||
		    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		    mount("tmpfs", path, "tmpfs", 0, NULL) < 0)
			_exit(90);
		_exit(cgroup_create(below, "x", &unlimited, &other, &err) == -EXDEV ? 0 : 1);
	}
	assert_int_equal(wait_for(pid), 0);
	destroy(cg);
}

static void directories_come_and_go_together(void **state)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = create("web", &unlimited);
	CLEANUP(cgroup_freep) struct cgroup *again = NULL;
	struct error err;
	struct stat a, b;

	(void)state;
	for (size_t i = 0; hierarchy(i); i++)
		assert_true(exists(i, "web", "cgroup.procs"));
	assert_int_equal(stat(cgroup_path(cg), &a), 0);
	assert_int_equal(fstat(cgroup_fd(cg), &b), 0);
	assert_true(a.st_ino == b.st_ino && a.st_dev == b.st_dev);
	assert_int_equal(cgroup_open(parent(), "web", &again, &err), 0);
	assert_string_equal(cgroup_path(again), cgroup_path(cg));
	assert_int_equal(cgroup_remove(again, &err), 0);
	for (size_t i = 0; hierarchy(i); i++)
		assert_false(exists(i, "web", ""));
	assert_int_equal(cgroup_remove(cg, &err), 0);
	assert_int_equal(cgroup_remove(cg, &err), 0);
}

static void join_reaches_every_hierarchy(void **state)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = create("web", &unlimited);
	struct error err;
	pid_t pid = start_in(cg, idle, NULL);
	char path[PATH_MAX];
	bool populated;

	(void)state;
	for (size_t i = 0; hierarchy(i); i++) {
		CLEANUP(freep) char *text = NULL;

		path_of(path, i, "web", "cgroup.procs");
		assert_int_equal(fd_read_file_at(AT_FDCWD, path, 4096, &text, NULL, &err), 0);
		assert_int_equal(atoi(text), pid);
	}
	assert_int_equal(cgroup_join(cg, pid, &err), 0);
	assert_int_equal(cgroup_is_populated(cg, &populated, &err), 0);
	assert_true(populated);
	destroy(cg);
	assert_int_equal(wait_for(pid), 1000 + SIGKILL);
}

static void what_lives_is_neither_replaced_nor_removed(void **state)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = create("web", &unlimited);
	CLEANUP(cgroup_freep) struct cgroup *second = NULL;
	struct error err;
	pid_t pid = start_in(cg, idle, NULL);

	(void)state;
	assert_int_equal(cgroup_create(parent(), "web", &unlimited, &second, &err), -EBUSY);
	assert_null(second);
	assert_int_equal(cgroup_remove(cg, &err), -EBUSY);
	assert_int_equal(kill(pid, 0), 0);
	assert_true(exists(0, "web", "cgroup.procs"));
	destroy(cg);
	assert_int_equal(wait_for(pid), 1000 + SIGKILL);
}

static void who_joined_v1_only_is_killed_too(void **state)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = create("web", &unlimited);
	bool pure_v2, populated;
	struct error err;
	pid_t pid;

	(void)state;
	assert_int_equal(cgroup_is_pure_v2(&pure_v2, &err), 0);
	if (pure_v2) {
		destroy(cg);
		return;
	}
	pid = start_by(cgroup_join_v1, cg, idle, NULL);
	assert_int_equal(cgroup_is_populated(cg, &populated, &err), 0);
	assert_false(populated);
	destroy(cg);
	assert_int_equal(wait_for(pid), 1000 + SIGKILL);
}

static void an_empty_one_is_made_anew(void **state)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = create("web", &unlimited);
	CLEANUP(cgroup_freep) struct cgroup *second = NULL;
	struct error err;
	bool frozen;

	(void)state;
	assert_int_equal(cgroup_freeze(cg, SECOND_US, &err), 0);
	assert_int_equal(mkdirat(cgroup_fd(cg), "nested", 0755), 0);
	second = create("web", &unlimited);
	assert_int_equal(cgroup_is_frozen(second, &frozen, &err), 0);
	assert_false(frozen);
	assert_false(exists(0, "web", "nested"));
	destroy(second);
}

/* Joins a cgroup that it makes inside its own, as a nested engine would. */
static int nest(void *ctx)
{
	const struct cgroup *cg = ctx;
	struct error err;

	if (mkdirat(cgroup_fd(cg), "a", 0755) < 0 || mkdirat(cgroup_fd(cg), "a/b", 0755) < 0 ||
	    mkdirat(cgroup_fd(cg), "c", 0755) < 0 ||
	    fd_write_file_at(cgroup_fd(cg), "a/b/cgroup.procs", "0", &err) < 0)
		return 1;
	return idle(NULL);
}

static void nested_cgroups_are_seen_killed_and_removed(void **state)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = create("web", &unlimited);
	struct error err;
	pid_t plain = start_in(cg, idle, NULL);
	pid_t nested = start_in(cg, nest, cg);
	CLEANUP(freep) pid_t *pids = NULL;
	size_t n;
	char path[PATH_MAX];

	(void)state;
	path_of(path, 0, "web", "a/b/cgroup.procs");
	for (struct stat st; stat(path, &st) < 0;)
		(void)sched_yield();
	for (long got = 0; got != nested;) {
		CLEANUP(freep) char *text = NULL;

		assert_int_equal(fd_read_file_at(AT_FDCWD, path, 4096, &text, NULL, &err), 0);
		got = atol(text);
	}
	assert_int_equal(cgroup_pids(cg, &pids, &n, &err), 0);
	assert_int_equal(n, 2);
	assert_true((pids[0] == plain && pids[1] == nested) ||
		    (pids[0] == nested && pids[1] == plain));
	for (size_t i = 1; hierarchy(i); i++) {
		path_of(path, i, "web", "deep");
		assert_int_equal(mkdir(path, 0755), 0);
	}
	assert_int_equal(cgroup_remove(cg, &err), -EBUSY);
	destroy(cg);
	assert_int_equal(wait_for(plain), 1000 + SIGKILL);
	assert_int_equal(wait_for(nested), 1000 + SIGKILL);
	for (size_t i = 0; hierarchy(i); i++)
		assert_false(exists(i, "web", ""));
}

#define REQUIRE(cond)                                                               \
	do {                                                                        \
		if (!(cond)) {                                                      \
			(void)fprintf(stderr, "line %d: %s: %s\n", __LINE__, #cond, \
				      strerror(errno));                             \
			return 1;                                                   \
		}                                                                   \
	} while (0)

static int look_at_view(void *ctx)
{
	char path[PATH_MAX];
	struct error err = { 0 };
	struct stat st;

	(void)ctx;
	REQUIRE(unshare(CLONE_NEWNS | CLONE_NEWCGROUP) == 0);
	REQUIRE(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	if (cgroup_mount_view("/mnt", false, &err) < 0)
		(void)fprintf(stderr, "%s\n", err.msg);
	REQUIRE(err.code == 0);
	REQUIRE(mkdir("/mnt/x", 0755) < 0 && errno == EROFS);
	for (size_t i = 0; hierarchy(i); i++) {
		CLEANUP(freep) char *text = NULL;

		(void)snprintf(path, sizeof(path), "/mnt%s/cgroup.procs", hierarchy(i));
		REQUIRE(fd_read_file_at(AT_FDCWD, path, 4096, &text, NULL, &err) == 0);
		REQUIRE(atoi(text) == getpid() && strchr(text, '\n')[1] == '\0');
		REQUIRE(open(path, O_WRONLY | O_CLOEXEC) < 0 && errno == EROFS);
		path_of(path, i, "web", "cgroup.procs"); /* the host's stays writable */
		REQUIRE(stat(path, &st) == 0);
		REQUIRE(open(path, O_WRONLY | O_CLOEXEC) >= 0);
	}
	return 0;
}

static void a_container_sees_its_own_subtree_read_only(void **state)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = create("web", &unlimited);

	(void)state;
	assert_int_equal(wait_for(start_in(cg, look_at_view, NULL)), 0);
	destroy(cg);
}

static int run_group(const char *layout)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_names_are_refused),
		cmocka_unit_test(a_parent_of_another_file_system_is_refused),
		cmocka_unit_test(directories_come_and_go_together),
		cmocka_unit_test(join_reaches_every_hierarchy),
		cmocka_unit_test(what_lives_is_neither_replaced_nor_removed),
		cmocka_unit_test(who_joined_v1_only_is_killed_too),
		cmocka_unit_test(an_empty_one_is_made_anew),
		cmocka_unit_test(nested_cgroups_are_seen_killed_and_removed),
		cmocka_unit_test(a_container_sees_its_own_subtree_read_only),
	};

	return cmocka_run_group_tests_name(layout, tests, set_parent, remove_parent);
}

int main(void)
{
	return in_each_layout(run_group);
}
