/*
 * Every test runs in the machine's own layout. Where that is hybrid, it runs
 * again in a mount namespace in which /sys/fs/cgroup is cgroup2 itself; that
 * has no controllers then, which is how the refusal of limits is tried.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "engine/base/cleanup.h"
#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "engine/cgroup.h"

#define SECOND_US 1000000u
#define MIB (1024u * 1024u)

static const struct cgroup_limits unlimited;

static const char *parent(void)
{
	return getenv("TEST_PARENT");
}

static bool pure_v2(void)
{
	struct error err;
	bool pure = false;

	if (cgroup_is_pure_v2(&pure, &err) < 0)
		(void)fprintf(stderr, "%s\n", err.msg);
	return pure;
}

/* A directory of one hierarchy; NULL where the layout lacks it. */
static const char *hierarchy(size_t i)
{
	static const char *const hybrid[] = { "/unified", "/memory", "/cpu", "/cpuacct", "/pids" };

	if (pure_v2())
		return i == 0 ? "" : NULL;
	return i < 5 ? hybrid[i] : NULL;
}

static void path_of(char ret[PATH_MAX], size_t i, const char *name, const char *file)
{
	(void)snprintf(ret, PATH_MAX, "/sys/fs/cgroup%s%s%s%s%s%s", hierarchy(i), parent(),
		       *name ? "/" : "", name, *file ? "/" : "", file);
}

static bool exists(size_t i, const char *name, const char *file)
{
	char path[PATH_MAX];

	path_of(path, i, name, file);
	return access(path, F_OK) == 0;
}

static bool has_controllers(void)
{
	CLEANUP(freep) char *text = NULL;
	struct error err;

	if (!pure_v2())
		return access("/sys/fs/cgroup/memory/memory.limit_in_bytes", F_OK) == 0;
	assert_int_equal(fd_read_file_at(AT_FDCWD, "/sys/fs/cgroup/cgroup.controllers", 4096, &text,
					 NULL, &err),
			 0);
	return strstr(text, "memory") && strstr(text, "pids");
}

static struct cgroup *create(const char *name, const struct cgroup_limits *limits)
{
	struct cgroup *cg = NULL;
	struct error err;

	if (cgroup_create(parent(), name, limits, &cg, &err) < 0)
		fail_msg("%s", err.msg);
	return cg;
}

static void destroy(struct cgroup *cg)
{
	struct error err;

	if (cgroup_kill(cg, 5 * SECOND_US, &err) < 0 || cgroup_remove(cg, &err) < 0)
		fail_msg("%s", err.msg);
}

/* A child that joins the cgroup, runs body and ends with what it returns. */
static pid_t start_by(int (*join)(const struct cgroup *cg, struct error *err), const struct cgroup *cg,
		      int (*body)(void *ctx), void *ctx)
{
	struct error err;
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (join(cg, &err) < 0) {
			(void)fprintf(stderr, "%s\n", err.msg);
			_exit(99);
		}
		fd_close(&ready[0]);
		fd_close(&ready[1]);
		_exit(body(ctx));
	}
	fd_close(&ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 0);
	fd_close(&ready[0]);
	return pid;
}

static int join_all(const struct cgroup *cg, struct error *err)
{
	return cgroup_join(cg, 0, err);
}

static pid_t start_in(const struct cgroup *cg, int (*body)(void *ctx), void *ctx)
{
	return start_by(join_all, cg, body, ctx);
}

static int wait_for(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int idle(void *ctx)
{
	(void)ctx;
	for (;;)
		(void)pause();
	return 0;
}

static int count(void *ctx)
{
	volatile unsigned *n = ctx;

	for (;;)
		(*n)++;
	return 0;
}

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

static void frozen_processes_stand_still(void **state)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = create("web", &unlimited);
	volatile unsigned *n =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct error err;
	unsigned before;
	bool frozen;
	pid_t pid;

	(void)state;
	assert_true(n != MAP_FAILED);
	pid = start_in(cg, count, (void *)(uintptr_t)n);
	for (int round = 0; round < 5; round++) {
		uint64_t start_us;

		while (*n == 0)
			(void)sched_yield();
		start_us = clock_us();
		assert_int_equal(cgroup_freeze(cg, 5 * SECOND_US, &err), 0);
		print_message("frozen in %llu us\n", (unsigned long long)(clock_us() - start_us));
		before = *n;
		assert_int_equal(cgroup_is_frozen(cg, &frozen, &err), 0);
		assert_true(frozen);
		(void)usleep(20000);
		assert_int_equal(*n, before);
		assert_int_equal(cgroup_thaw(cg, &err), 0);
		while (*n == before)
			(void)sched_yield();
	}
	assert_int_equal(cgroup_is_frozen(cg, &frozen, &err), 0);
	assert_false(frozen);
	assert_int_equal(cgroup_freeze(cg, SECOND_US, &err), 0);
	destroy(cg); /* while frozen */
	assert_int_equal(wait_for(pid), 1000 + SIGKILL);
	assert_int_equal(munmap((void *)(uintptr_t)n, 4096), 0);
}

static sigjmp_buf faulted;

static void on_fault(int signal)
{
	(void)signal;
	siglongjmp(faulted, 1);
}

static int fault(void *ctx)
{
	const struct sigaction action = { .sa_handler = on_fault, .sa_flags = SA_NODEFER };
	void *guard = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (ctx) {	/* one that was sent and is blocked */
		sigset_t mask;

		(void)sigemptyset(&mask);
		(void)sigaddset(&mask, SIGBUS);
		(void)sigprocmask(SIG_BLOCK, &mask, NULL);
		(void)raise(SIGBUS);
	}
	(void)sigaction(SIGSEGV, &action, NULL);
	(void)sigsetjmp(faulted, 0);
	(void)*(volatile char *)guard;
	return 1;
}

static bool has_pending(pid_t pid, int signal)
{
	CLEANUP(freep) char *text = NULL;
	const char *at;
	char path[32];
	struct error err;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", pid);
	assert_int_equal(fd_read_file_at(AT_FDCWD, path, 1 << 16, &text, NULL, &err), 0);
	at = strstr(text, "\nSigPnd:");
	assert_non_null(at);
	return strtoull(at + strlen("\nSigPnd:"), NULL, 16) >> (signal - 1) & 1;
}

/* Each second plain freeze of such a program finds it there. */
static void freeze_in_a_fault(const struct cgroup *cg, pid_t pid)
{
	uint64_t end_us = clock_us() + 60 * SECOND_US;
	struct error err;

	for (;;) {
		assert_int_equal(cgroup_freeze(cg, 5 * SECOND_US, &err), 0);
		if (has_pending(pid, SIGSEGV))
			return;
		assert_int_equal(cgroup_thaw(cg, &err), 0);
		assert_true(clock_us() < end_us);
		(void)usleep(500);
	}
}

static void who_is_dumped_is_not_between_a_fault_and_its_signal(void **state)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = create("web", &unlimited);
	struct error err;
	bool frozen;
	pid_t pid;

	(void)state;
	pid = start_in(cg, fault, cg);
	for (int round = 0; round < 5; round++) {
		freeze_in_a_fault(cg, pid);
		assert_int_equal(cgroup_freeze_to_dump(cg, SECOND_US, &err), -EBUSY);
		assert_non_null(strstr(err.msg, "unpause"));
		assert_int_equal(cgroup_is_frozen(cg, &frozen, &err), 0);
		assert_true(frozen);
		assert_int_equal(cgroup_thaw(cg, &err), 0);
		assert_int_equal(cgroup_freeze_to_dump(cg, 60 * SECOND_US, &err), 0);
		assert_true(has_pending(pid, SIGBUS));
		assert_false(has_pending(pid, SIGSEGV));
		assert_int_equal(cgroup_freeze_to_dump(cg, SECOND_US, &err), 0);
		assert_int_equal(cgroup_thaw(cg, &err), 0);
	}
	destroy(cg);
	assert_int_equal(wait_for(pid), 1000 + SIGKILL);
}

/* So many that two processors can't stop all of them in no time. */
static void a_freeze_that_fails_thaws(void **state)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = create("web", &unlimited);
	CLEANUP(freep) char *text = NULL;
	unsigned n = 0;
	pid_t pids[20];
	struct error err;

	(void)state;
	for (size_t i = 0; i < 20; i++)
		pids[i] = start_in(cg, count, &n);
	assert_int_equal(cgroup_freeze(cg, 0, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.msg, "/web"));
	assert_int_equal(fd_read_file_at(cgroup_fd(cg), "cgroup.freeze", 16, &text, NULL, &err), 0);
	assert_int_equal(*text, '0');
	assert_int_equal(cgroup_kill(cg, 5 * SECOND_US, &err), 0);
	for (size_t i = 0; i < 20; i++)
		assert_int_equal(wait_for(pids[i]), 1000 + SIGKILL);
	destroy(cg);
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
	if (cgroup_mount_view("/mnt", &err) < 0)
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

static int remove_parent(void **state)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	struct error err;

	(void)state;
	/* A test that failed left "web" and what runs in it. */
	if (cgroup_open(parent(), "web", &cg, &err) == 0) {
		(void)cgroup_kill(cg, 5 * SECOND_US, &err);
		(void)cgroup_remove(cg, &err);
	}
	for (size_t i = 0; hierarchy(i); i++) {
		char path[PATH_MAX];

		path_of(path, i, ".helpers", "");
		(void)rmdir(path);
		path_of(path, i, "", "");
		if (rmdir(path) < 0 && errno != ENOENT)
			return -1;
	}
	return 0;
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
		cmocka_unit_test(frozen_processes_stand_still),
		cmocka_unit_test(who_is_dumped_is_not_between_a_fault_and_its_signal),
		cmocka_unit_test(a_freeze_that_fails_thaws),
		cmocka_unit_test(nested_cgroups_are_seen_killed_and_removed),
		cmocka_unit_test(limits_without_a_controller_are_refused),
		cmocka_unit_test(limits_are_read_back),
		cmocka_unit_test(limits_are_in_force),
		cmocka_unit_test(usage_counts),
		cmocka_unit_test(a_container_sees_its_own_subtree_read_only),
	};
	char name[64];

	(void)snprintf(name, sizeof(name), "/godwit-test-%d", (int)getpid());
	(void)setenv("TEST_PARENT", name, 1);
	return cmocka_run_group_tests_name(layout, tests, NULL, remove_parent);
}

static int run_in_pure_v2(void)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, NULL) < 0) {
		perror("mount cgroup2");
		return 1;
	}
	return run_group("pure v2");
}

int main(void)
{
	int failed, status;
	pid_t pid;

	if (geteuid() != 0)
		return 77;
	failed = run_group("as the machine is");
	if (pure_v2())
		return failed;
	(void)fflush(NULL);
	pid = fork();
	if (pid == 0)
		exit(run_in_pure_v2());
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		failed++;
	return failed != 0;
}
