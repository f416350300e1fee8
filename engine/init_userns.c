#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "engine/base/child.h"
#include "engine/base/fd.h"
#include "engine/init_userns.h"
#include "engine/rootfs.h"
#include "engine/userns.h"

/* What the go-between tells: the init's pid, or why there is none. */
struct told {
	int32_t pid;
	struct error err;
};

static pid_t clone3(struct clone_args *args)
{
	return (pid_t)syscall(SYS_clone3, args, sizeof(*args));
}

/* Returns twice, as clone3. */
static pid_t go_between(const struct monitor_setup *s, struct error *err)
{
	struct clone_args args = { .flags = CLONE_PARENT | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC |
				   CLONE_NEWCGROUP };
	pid_t pid;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return error_set(err, errno, "make mounts private: %s", strerror(errno));
	if (setns(s->netns_fd, CLONE_NEWNET) < 0)
		return error_set(err, errno, "enter its network namespace: %s", strerror(errno));
	if (cgroup_join(s->cgroup, 0, err) < 0 || userns_enter(s->userns_fd, err) < 0)
		return -err->code;
	pid = clone3(&args);
	return pid < 0 ? error_set(err, errno, "clone in the user namespace: %s", strerror(errno)) : pid;
}

pid_t init_userns_clone(const struct monitor_setup *s, struct error *err)
{
	struct clone_args args = { .flags = CLONE_NEWNS | CLONE_INTO_CGROUP, .exit_signal = SIGCHLD,
				   .cgroup = (uint64_t)cgroup_fd(s->cgroup) };
	struct told told = { 0 };
	pid_t between;
	int p[2], r;

	if (pipe2(p, O_CLOEXEC) < 0)
		return error_set(err, errno, "pipe: %s", strerror(errno));
	between = clone3(&args);
	if (between == 0) {
		told.pid = go_between(s, &told.err);
		if (told.pid == 0)
			return 0;
		_exit(write(p[1], &told, sizeof(told)) != sizeof(told));
	}
	(void)close(p[1]);
	r = between < 0 ? error_set(err, errno, "clone: %s", strerror(errno)) :
			  fd_read_full(p[0], &told, sizeof(told), err);
	(void)close(p[0]);
	if (between > 0)
		(void)waitpid(between, NULL, 0);
	if (r == 0 && told.pid < 0)
		*err = told.err;
	return r < 0 ? r : told.pid;
}

struct mounting {
	const struct monitor_setup *s;
	int init_fd;
	bool write_etc;
};

static int mount_all(void *ctx, struct error *err)
{
	const struct mounting *m = ctx;
	const struct container *c = m->s->container;

	if (userns_work_for(&c->spec->userns, err) < 0 ||
	    rootfs_mount(c, ROOTFS_FOR_START, NULL, m->s->userns_fd, err) < 0 ||
	    (m->write_etc && rootfs_write_etc(c, err) < 0))
		return -err->code;
	return rootfs_pivot(c, err);
}

/* All but the user namespace. Only a child gets into the pid namespace, which /proc shows. */
static int enter_and_mount(void *ctx, struct error *err)
{
	const int all = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP;
	const struct mounting *m = ctx;

	if (setns(m->init_fd, all) < 0)
		return error_set(err, errno, "enter its namespaces: %s", strerror(errno));
	return child_do(mount_all, ctx, err);
}

int init_userns_mount(const struct monitor_setup *s, pid_t init, bool write_etc, struct error *err)
{
	CLEANUP(fd_closep) int fd = pidfd_open(init, 0);
	struct mounting m = { .s = s, .init_fd = fd, .write_etc = write_etc };

	return fd < 0 ? error_set(err, errno, "pidfd of its init: %s", strerror(errno)) :
			child_do(enter_and_mount, &m, err);
}

int init_userns_take_mounts(struct error *err)
{
	return unshare(CLONE_NEWNS) < 0 ? error_set(err, errno, "new mount namespace: %s", strerror(errno)) : 0;
}
