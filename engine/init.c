#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "engine/base/fd.h"
#include "engine/capability.h"
#include "engine/devices.h"
#include "engine/init.h"
#include "engine/init_userns.h"
#include "engine/network/nat.h"
#include "engine/process.h"
#include "engine/rootfs.h"
#include "engine/seccomp.h"
#include "engine/terminal.h"

/*
 * Parent and child meet on a socket pair:
 *   parent: it is mounted (with a user namespace only)     ─► child
 *   child: prepared (with the terminal's master, if any)   ─► parent
 *   parent: network is attached, go                        ─► child
 *   child: end of file by exec, or a struct error          ─► parent
 */
enum { BARRIER_MOUNTED = 'm', BARRIER_PREPARED = 'p', BARRIER_GO = 'g' };

static int enter_namespaces(const struct monitor_setup *s, struct error *err)
{
	if (setns(s->netns_fd, CLONE_NEWNET) < 0)
		return error_set(err, errno, "enter its network namespace: %s", strerror(errno));
	if (cgroup_join(s->cgroup, 0, err) < 0)
		return -err->code;
	if (unshare(CLONE_NEWCGROUP) < 0)
		return error_set(err, errno, "new cgroup namespace: %s", strerror(errno));
	if (s->container->spec->nested && cgroup_enter_leaf(s->cgroup, err) < 0)
		return -err->code;
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return error_set(err, errno, "make mounts private: %s", strerror(errno));
	return 0;
}

static int take_stdio(const struct monitor_setup *s, int terminal, struct error *err)
{
	CLEANUP(fd_closep) int null_fd = -EBADF;

	if (process_open_null(&null_fd, err) < 0)
		return -err->code;
	for (int i = 0; i < 3; i++) {
		int from = terminal >= 0 ? terminal : s->stdio[i] >= 0 ? s->stdio[i] : null_fd;

		if (dup2(from, i) < 0)
			return error_set(err, errno, "set up stdio: %s", strerror(errno));
	}
	if (terminal >= 0 && ioctl(0, TIOCSCTTY, 0) < 0)
		return error_set(err, errno, "take the terminal: %s", strerror(errno));
	return 0;
}

static int await_mounts(int sock, struct error *err)
{
	char byte;

	if (fd_read_full(sock, &byte, 1, err) < 0 || byte != BARRIER_MOUNTED)
		_exit(1);
	return init_userns_take_mounts(err);
}

static int mount_here(const struct monitor_setup *s, bool first, struct error *err)
{
	const struct container *c = s->container;

	return enter_namespaces(s, err) < 0 || rootfs_mount(c, ROOTFS_FOR_START, NULL, -EBADF, err) < 0 ||
	       (first && rootfs_write_etc(c, err) < 0) || rootfs_pivot(c, err) < 0 ? -err->code : 0;
}

static int child_prepare(const struct monitor_setup *s, bool first, int sock, int *ret_slave, int *ret_master,
			 struct error *err)
{
	const struct container *c = s->container;

	if (s->userns_fd >= 0 ? await_mounts(sock, err) < 0 : mount_here(s, first, err) < 0)
		return -err->code;
	if (sethostname(c->spec->hostname, strlen(c->spec->hostname)) < 0)
		return error_set(err, errno, "set hostname: %s", strerror(errno));
	if (setsid() < 0)
		return error_set(err, errno, "setsid: %s", strerror(errno));
	return c->spec->terminal ? terminal_open("/dev/pts", ret_master, ret_slave, err) : 0;
}

static int child_run(const struct monitor_setup *s, bool first, const struct process *p, int sock,
		     struct error *err)
{
	CLEANUP(fd_closep) int slave = -EBADF, master = -EBADF;
	char byte = BARRIER_PREPARED;
	struct error ignored;

	if (child_prepare(s, first, sock, &slave, &master, err) < 0)
		return -err->code;
	if (fd_send_msg(sock, &byte, 1, &master, master >= 0, err) < 0)
		return -err->code;
	if (fd_read_full(sock, &byte, 1, &ignored) < 0 || byte != BARRIER_GO)
		_exit(1);
	fd_close(&master);
	if (take_stdio(s, slave, err) < 0 || process_leave_host(sock, err) < 0)
		return -err->code;
	return process_become(p, err);
}

static pid_t clone_init(const struct monitor_setup *s, struct error *err)
{
	struct clone_args args = {
		.flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_INTO_CGROUP,
		.exit_signal = SIGCHLD,
		.cgroup = (uint64_t)cgroup_fd(s->cgroup),
	};
	pid_t pid;

	if (s->userns_fd >= 0)
		return init_userns_clone(s, err);
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	return pid < 0 ? error_set(err, errno, "clone: %s", strerror(errno)) : pid;
}

/* The child's next word: 0 at the byte expected, or its error. */
static int hear(int sock, char expected, int *ret_fd, struct error *err)
{
	struct error said;
	ssize_t n = fd_recv_msg(sock, &said, sizeof(said), ret_fd, ret_fd ? 1 : 0, err);

	if (n < 0)
		return (int)n;
	if (n == 1 && *(char *)&said == expected)
		return 0;
	if (n == 0 && !expected)
		return 0;
	if (n != sizeof(said))
		return error_set(err, ECHILD, "the container's init died while it was being set up");
	*err = said;
	err->msg[sizeof(err->msg) - 1] = '\0';
	return -err->code;
}

static int mount_from_outside(const struct monitor_setup *s, bool first, int sock, pid_t pid, struct error *err)
{
	const char mounted = BARRIER_MOUNTED;

	return init_userns_mount(s, pid, first, err) < 0 ? -err->code : fd_send_msg(sock, &mounted, 1, NULL, 0, err);
}

static int drive(struct monitor_setup *s, bool first, int sock, pid_t pid, int *ret_terminal, struct error *err)
{
	char go = BARRIER_GO;

	if (s->userns_fd >= 0 && mount_from_outside(s, first, sock, pid, err) < 0)
		return -err->code;
	if (network_attach(s->netns_fd, &s->endpoint, NETWORK_GATE_OPEN, err) < 0 ||
	    nat_attach(&s->endpoint, err) < 0 ||
	    hear(sock, BARRIER_PREPARED, ret_terminal, err) < 0 ||
	    fd_send_msg(sock, &go, 1, NULL, 0, err) < 0)
		return -err->code;
	return hear(sock, 0, NULL, err);
}

static _Noreturn void child_main(const struct monitor_setup *s, bool first,
				 const struct process *p, int sock)
{
	struct error err = { 0 }, ignored;

	(void)child_run(s, first, p, sock, &err);
	(void)fd_send_msg(sock, &err, sizeof(err), NULL, 0, &ignored);
	_exit(1);
}

/* A child that dies without a word was killed: by the kernel, if it found no memory. */
static int explain_death(const struct monitor_setup *s, struct error *err)
{
	struct cgroup_usage used;
	struct error ignored;

	if (err->code == ECHILD && cgroup_get_usage(s->cgroup, &used, &ignored) == 0 && used.oom_kills > 0)
		return error_set(err, ENOMEM,
				 "its memory limit is too small to start anything; give a higher --memory");
	return -err->code;
}

static int open_cache(const struct monitor_setup *s)
{
	return openat(s->container->node->state_fd, "cache", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int attach_devices(const struct monitor_setup *s, struct error *err)
{
	return s->container->spec->nested ? devices_attach_default_above(cgroup_fd(s->cgroup), err) :
					    devices_attach_default(cgroup_fd(s->cgroup), err);
}

int init_start(struct monitor_setup *s, void *ctx, pid_t *ret_pid, int *ret_terminal,
	       struct error *err)
{
	const struct spec *spec = s->container->spec;
	const bool first = *(const bool *)ctx;
	CLEANUP(fd_closep) int cache = open_cache(s), terminal = -EBADF;
	struct sock_fprog filter = { 0 };
	struct process p = {
		.args = spec->args, .env = spec->env, .cwd = spec->cwd,
		.uid = spec->uid, .gid = spec->gid, .groups = spec->groups, .n_groups = spec->n_groups,
		.capabilities = capability_sets_for(spec->capabilities, spec->uid), .umask = 0022, .filter = &filter,
	};
	int sock[2], r;
	pid_t pid;

	if (seccomp_filter(cache, spec->capabilities, &filter, err) < 0 ||
	    attach_devices(s, err) < 0)
		return -err->code;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) < 0)
		return error_set(err, errno, "socketpair: %s", strerror(errno));
	pid = clone_init(s, err);
	if (pid == 0) {
		(void)close(sock[0]);
		child_main(s, first, &p, sock[1]);
	}
	fd_close(&sock[1]);
	r = pid < 0 ? pid : drive(s, first, sock[0], pid, &terminal, err);
	fd_close(&sock[0]);
	free(filter.filter);
	if (r < 0) {
		if (pid > 0) {
			(void)kill(pid, SIGKILL);
			(void)waitpid(pid, NULL, 0);
		}
		return explain_death(s, err);
	}
	*ret_pid = pid;
	*ret_terminal = TAKE_FD(terminal);
	return 0;
}
