/*
 * userns.c - preloaded into CRIU: a restore into a user namespace that is there already
 *
 * CRIU would make one with the maps of its image. The container's has the maps that this
 * node gave it, and the prepared network namespace belongs to it. CRIU's images have ids
 * as they are inside, so no other maps than those of the namespace are needed.
 *
 *  clone3   puts the root task into it, by a process that goes between.
 *  write    of the maps of one that has them: nothing.
 *
 * Root in there has no right to userfaultfd(2) nor to /proc/self/map_files, with which
 * tasks get prepared memory (memory.c). They take descriptors from a store instead: one
 * message in a socket, looked at and never received, with /dev/userfaultfd and all
 * prepared files.
 *
 *  close    not of the store, when CRIU's tasks close all that they don't know.
 *  syscall  userfaultfd by the device; CRIU asks for it last, so it ends the store.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "criu-glue/shim/shim.h"

#define STORE_MAX (SHIM_STORE_MAX + 1)	/* descriptors in one message: SCM_MAX_FD of the kernel */
#define STORE_FD 100000			/* CRIU has its own right below powers of two */

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0)
#endif

static int userns = -1;
static int store = -1;

/* ---- the store ---- */

/* The task's descriptors get the numbers that they had: one that few have. CRIU fails where it has. */
static int move_away(int fd)
{
	struct rlimit l = { .rlim_cur = 1024 };
	int moved;

	(void)getrlimit(RLIMIT_NOFILE, &l);
	moved = fcntl(fd, F_DUPFD_CLOEXEC, l.rlim_cur > STORE_FD ? STORE_FD : (int)(l.rlim_cur / 3 * 2));
	(void)syscall(SYS_close, fd);
	return moved;
}

bool shim_has_userns(void)
{
	return userns >= 0;
}

bool shim_store_fill(const int *fds, size_t n)
{
	char control[CMSG_SPACE(STORE_MAX * sizeof(int))] = { 0 }, byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
			    .msg_controllen = CMSG_SPACE((n + 1) * sizeof(int)) };
	struct cmsghdr *c = (struct cmsghdr *)control;
	int faults = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), pair[2];
	bool fine = faults >= 0 && n <= SHIM_STORE_MAX && socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) == 0;

	if (fine) {
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN((n + 1) * sizeof(int));
		memcpy(CMSG_DATA(c), &faults, sizeof(int));
		memcpy(CMSG_DATA(c) + sizeof(int), fds, n * sizeof(int));
		fine = sendmsg(pair[0], &m, 0) == 1;
		(void)syscall(SYS_close, pair[0]);
		store = move_away(pair[1]);
	}
	if (faults >= 0)
		(void)syscall(SYS_close, faults);
	return fine && store >= 0;
}

static int take(size_t i)
{
	char control[CMSG_SPACE(STORE_MAX * sizeof(int))], byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
			    .msg_controllen = sizeof(control) };
	struct cmsghdr *c = (struct cmsghdr *)control;
	int fds[STORE_MAX], found = -1;
	size_t n;

	if (recvmsg(store, &m, MSG_PEEK | MSG_CMSG_CLOEXEC) != 1 || m.msg_controllen < CMSG_LEN(sizeof(int)))
		return -1;
	n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	memcpy(fds, CMSG_DATA(c), n * sizeof(int));
	for (size_t k = 0; k < n; k++) {
		if (k == i)
			found = fds[k];
		else
			(void)syscall(SYS_close, fds[k]);
	}
	return found;
}

int shim_store_take(size_t i)
{
	return take(i + 1);
}

long shim_userfaultfd(int flags)
{
	int faults = take(0);
	long r = faults < 0 ? -1 : syscall(SYS_ioctl, faults, USERFAULTFD_IOC_NEW, flags);
	int saved = errno;

	if (faults >= 0)
		(void)syscall(SYS_close, faults);
	(void)syscall(SYS_close, store);
	store = -1;
	errno = saved;
	return r;
}

EXPORT int close(int fd)
{
	return fd >= 0 && fd == store ? 0 : (int)syscall(SYS_close, fd);
}

/* ---- the root task ---- */

/* In the one between. */
static long clone_inside(struct clone_args *into)
{
	into->flags &= ~(uint64_t)(CLONE_NEWUSER | CLONE_INTO_CGROUP);
	into->cgroup = 0;
	return setns(userns, CLONE_NEWUSER) < 0 ? -1 : syscall(SYS_clone3, into, sizeof(*into));
}

/* The root task is a child of the caller, as it would be without the one between. */
long shim_clone_into_userns(struct clone_args *into)
{
	struct clone_args between = { .flags = CLONE_PARENT | CLONE_INTO_CGROUP, .cgroup = into->cgroup };
	long pid, told = -EIO;
	int p[2];

	if (!(into->flags & CLONE_PARENT) || pipe2(p, O_CLOEXEC) < 0) {
		errno = ENOTSUP;
		return -1;
	}
	pid = syscall(SYS_clone3, &between, sizeof(between));
	if (pid == 0) {
		pid = clone_inside(into);
		if (pid != 0) {
			told = pid < 0 ? -errno : pid;
			_exit(write(p[1], &told, sizeof(told)) != sizeof(told));
		}
		(void)close(p[0]);
		(void)close(p[1]);
		return 0;
	}
	(void)close(p[1]);
	if (pid < 0)
		told = -errno;
	else if (read(p[0], &told, sizeof(told)) != sizeof(told))
		told = -EIO;
	(void)close(p[0]);
	if (told < 0)
		errno = (int)-told;
	return told < 0 ? -1 : told;
}

static bool is_id_map(int fd)
{
	char link[32], path[64] = "", *name;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (readlink(link, path, sizeof(path) - 1) < 0)
		return false;
	name = strrchr(path, '/');
	return name && (!strcmp(name, "/uid_map") || !strcmp(name, "/gid_map"));
}

EXPORT ssize_t write(int fd, const void *data, size_t len)
{
	long r = syscall(SYS_write, fd, data, len);

	return r < 0 && errno == EPERM && userns >= 0 && is_id_map(fd) ? (ssize_t)len : r;
}

__attribute__((constructor)) static void userns_start(void)
{
	const char *number = getenv(SHIM_USERNS);

	if (number)
		userns = atoi(number);
	(void)unsetenv(SHIM_USERNS);
}
