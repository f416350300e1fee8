#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "engine/base/cleanup.h"
#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "engine/cgroup/cgroup.h"
#include "engine/devices.h"

static const struct cgroup_limits unlimited;

static const struct node {
	const char *name;
	mode_t type;
	unsigned major, minor;
	bool allowed;
} nodes[] = {
	{ "null", S_IFCHR, 1, 3, true },
	{ "zero", S_IFCHR, 1, 5, true },
	{ "full", S_IFCHR, 1, 7, true },
	{ "random", S_IFCHR, 1, 8, true },
	{ "urandom", S_IFCHR, 1, 9, true },
	{ "tty", S_IFCHR, 5, 0, true },
	{ "console", S_IFCHR, 5, 1, true },
	{ "ptmx", S_IFCHR, 5, 2, true },
	{ "pts0", S_IFCHR, 136, 0, true },
	{ "pts77", S_IFCHR, 136, 77, true },
	{ "mem", S_IFCHR, 1, 1, false },
	{ "kmsg", S_IFCHR, 1, 11, false },
	{ "tty0", S_IFCHR, 4, 0, false },
	{ "tty3", S_IFCHR, 5, 3, false },
	{ "kvm", S_IFCHR, 10, 232, false },
	{ "fuse", S_IFCHR, 10, 229, false },
	{ "none", S_IFCHR, 250, 3, false },
	{ "pts-next", S_IFCHR, 137, 0, false },
	{ "disk", S_IFBLK, 7, 0, false },
	{ "disk-like-null", S_IFBLK, 1, 3, false },
	{ "disk-like-pts", S_IFBLK, 136, 0, false },
};

#define NODES (sizeof(nodes) / sizeof(*nodes))

static int scratch(void **state)
{
	char path[] = "/tmp/godwit-test-XXXXXX";

	if (!mkdtemp(path))
		return -1;
	*state = strdup(path);
	return 0;
}

static void parent_name(char ret[64])
{
	(void)snprintf(ret, 64, "/godwit-test-%d", (int)getpid());
}

/* Also after a failure: the cgroup in every hierarchy, and the nodes. */
static int drop_scratch(void **state)
{
	static const char *const hierarchies[] = { "",	   "/unified", "/memory",
						   "/cpu", "/cpuacct", "/pids", "/blkio" };
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	char parent[64], path[PATH_MAX];
	struct error err;
	int r;

	parent_name(parent);
	if (cgroup_open(parent, "devices", &cg, &err) == 0) {
		(void)cgroup_kill(cg, 5000000, &err);
		(void)cgroup_remove(cg, &err);
	}
	for (size_t i = 0; i < sizeof(hierarchies) / sizeof(*hierarchies); i++) {
		(void)snprintf(path, sizeof(path), "/sys/fs/cgroup%s%s", hierarchies[i], parent);
		(void)rmdir(path);
	}
	r = fd_remove_tree_at(AT_FDCWD, *state, &err);
	free(*state);
	return r;
}

static struct cgroup *create(void)
{
	struct cgroup *cg = NULL;
	struct error err;
	char parent[64];

	parent_name(parent);
	if (cgroup_create(parent, "devices", &unlimited, &cg, &err) < 0)
		fail_msg("%s", err.msg);
	return cg;
}

/* Whatever else fails to open a node (no such driver, no terminal), only the
 * cgroup says EPERM to root. */
static bool is_refused(const char *path, int flags)
{
	CLEANUP(fd_closep) int fd = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	return fd < 0 && errno == EPERM;
}

/* Returns the number of surprises. */
static int try_nodes(const char *dir, bool restricted)
{
	char path[PATH_MAX];
	int wrong = 0;

	(void)umask(0);
	for (size_t i = 0; i < NODES; i++) {
		const struct node *n = &nodes[i];
		bool refused;

		(void)snprintf(path, sizeof(path), "%s/%s", dir, n->name);
		(void)unlink(path);
		if (mknod(path, n->type | 0666, makedev(n->major, n->minor)) < 0) {
			(void)fprintf(stderr, "mknod %s: %s\n", n->name, strerror(errno));
			wrong++;
			continue;
		}
		refused = is_refused(path, O_RDONLY) || is_refused(path, O_WRONLY);
		if (refused != (restricted && !n->allowed)) {
			(void)fprintf(stderr, "%s is %s\n", n->name,
				      refused ? "refused" : "let in");
			wrong++;
		}
	}
	return wrong;
}

static void in_cgroup(const struct cgroup *cg, const char *dir, bool restricted)
{
	struct error err;
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(cgroup_join(cg, 0, &err) < 0 ? 100 : try_nodes(dir, restricted));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static unsigned count_programs(int cgroup_fd_)
{
	uint32_t ids[8];
	union bpf_attr attr = { .query = { .target_fd = (uint32_t)cgroup_fd_,
					   .attach_type = BPF_CGROUP_DEVICE,
					   .prog_ids = (uint64_t)(uintptr_t)ids,
					   .prog_cnt = 8 } };

	assert_int_equal(syscall(SYS_bpf, BPF_PROG_QUERY, &attr, sizeof(attr)), 0);
	return attr.query.prog_cnt;
}

static void only_the_default_nodes_open(void **state)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = create();
	struct error err;
	uint64_t start_us;

	in_cgroup(cg, *state, false);
	assert_int_equal(count_programs(cgroup_fd(cg)), 0);
	for (int round = 0; round < 3; round++) {
		start_us = clock_us();
		if (devices_attach_default(cgroup_fd(cg), &err) < 0)
			fail_msg("%s", err.msg);
		print_message("attached in %llu us\n", (unsigned long long)(clock_us() - start_us));
		assert_int_equal(count_programs(cgroup_fd(cg)), 1);
	}
	in_cgroup(cg, *state, true);
	assert_int_equal(try_nodes(*state, false), 0); /* we ourselves are not in it */
}

static void what_is_no_cgroup_is_refused(void **state)
{
	CLEANUP(fd_closep) int fd = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct error err;

	assert_true(fd >= 0);
	assert_true(devices_attach_default(fd, &err) < 0);
	assert_int_equal(devices_attach_default(-EBADF, &err), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(only_the_default_nodes_open, scratch, drop_scratch),
		cmocka_unit_test_setup_teardown(what_is_no_cgroup_is_refused, scratch,
						drop_scratch),
	};

	if (geteuid() != 0)
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
