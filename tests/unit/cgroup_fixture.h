/*
 * cgroup_fixture.h - cgroups of a parent of one's own, in each layout
 *
 * Every test runs in the machine's own layout. Where that is hybrid, it runs
 * again in a mount namespace in which /sys/fs/cgroup is cgroup2 itself; that
 * has no controllers then, which is how the refusal of limits is tried.
 */
#pragma once

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
#include "engine/cgroup/cgroup.h"

#define SECOND_US 1000000u

static const struct cgroup_limits unlimited;

static inline const char *parent(void)
{
	return getenv("TEST_PARENT");
}

static inline bool pure_v2(void)
{
	struct error err;
	bool pure = false;

	if (cgroup_is_pure_v2(&pure, &err) < 0)
		(void)fprintf(stderr, "%s\n", err.msg);
	return pure;
}

/* A directory of one hierarchy; NULL where the layout lacks it. */
static inline const char *hierarchy(size_t i)
{
	static const char *const hybrid[] = { "/unified", "/memory", "/cpu", "/cpuacct", "/pids", "/blkio" };

	if (pure_v2())
		return i == 0 ? "" : NULL;
	return i < sizeof(hybrid) / sizeof(*hybrid) ? hybrid[i] : NULL;
}

static inline void path_of(char ret[PATH_MAX], size_t i, const char *name, const char *file)
{
	(void)snprintf(ret, PATH_MAX, "/sys/fs/cgroup%s%s%s%s%s%s", hierarchy(i), parent(),
		       *name ? "/" : "", name, *file ? "/" : "", file);
}

static inline bool exists(size_t i, const char *name, const char *file)
{
	char path[PATH_MAX];

	path_of(path, i, name, file);
	return access(path, F_OK) == 0;
}

static inline bool has_controllers(void)
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

static inline struct cgroup *create(const char *name, const struct cgroup_limits *limits)
{
	struct cgroup *cg = NULL;
	struct error err;

	if (cgroup_create(parent(), name, limits, &cg, &err) < 0)
		fail_msg("%s", err.msg);
	return cg;
}

static inline void destroy(struct cgroup *cg)
{
	struct error err;

	if (cgroup_kill(cg, 5 * SECOND_US, &err) < 0 || cgroup_remove(cg, &err) < 0)
		fail_msg("%s", err.msg);
}

/* A child that joins the cgroup, runs body and ends with what it returns. */
static inline pid_t start_by(int (*join)(const struct cgroup *cg, struct error *err), const struct cgroup *cg,
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

static inline int join_all(const struct cgroup *cg, struct error *err)
{
	return cgroup_join(cg, 0, err);
}

static inline pid_t start_in(const struct cgroup *cg, int (*body)(void *ctx), void *ctx)
{
	return start_by(join_all, cg, body, ctx);
}

static inline int wait_for(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static inline int idle(void *ctx)
{
	(void)ctx;
	for (;;)
		(void)pause();
	return 0;
}

static inline int count(void *ctx)
{
	volatile unsigned *n = ctx;

	for (;;)
		(*n)++;
	return 0;
}

static inline int remove_parent(void **state)
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

static inline void enter_pure_v2(void)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, NULL) < 0) {
		perror("mount cgroup2");
		exit(1);
	}
}

/* The group sets a parent of its own up with set_parent, and remove_parent tears it down. */
static inline int set_parent(void **state)
{
	char name[64];

	(void)state;
	(void)snprintf(name, sizeof(name), "/godwit-test-%d", (int)getpid());
	return setenv("TEST_PARENT", name, 1);
}

/* Runs the group in each layout; returns what main shall. */
static inline int in_each_layout(int (*run_group)(const char *layout))
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
	if (pid == 0) {
		enter_pure_v2();
		exit(run_group("pure v2"));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		failed++;
	return failed != 0;
}
