#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "engine/base/fd.h"
#include "engine/container.h"
#include "engine/oci/oci_hooks.h"
#include "engine/oci/oci_launch.h"
#include "engine/oci/oci_resources.h"
#include "engine/oci/oci_scope.h"

static void launch_close(struct oci_launch *l)
{
	oci_namespaces_close(&l->namespaces);
	oci_mounts_close(&l->mounts);
	cgroup_free(l->cgroup);
	fd_close(&l->listen_fd);
	fd_close(&l->sock[0]);
	fd_close(&l->sock[1]);
	free(l->plan.filter.filter);
}

static int listen_for_start(const struct oci_container *c, int *ret_fd, struct error *err)
{
	CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	(void)snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/%s", c->dir_fd, OCI_START_SOCKET);
	if (fd < 0 || bind(fd, (const struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 4) < 0)
		return error_set(err, errno, "listen at %s/%s: %s", c->dir, OCI_START_SOCKET, strerror(errno));
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int check_options(const struct oci_launch *l, struct error *err)
{
	if (l->o->preserve_fds > 20)
		return error_set(err, EINVAL, "--preserve-fds: at most 20");
	if (l->o->console_socket && !l->plan.spec->terminal)
		return error_set(err, EINVAL, "--console-socket: process.terminal is not true");
	return 0;
}

/* Everything that can fail without a process. */
static int prepare(struct oci_launch *l, struct error *err)
{
	const struct oci_spec *s = l->c->spec;
	CLEANUP(fd_closep) int cache = oci_container_cache(l->c);

	if (!s->process)
		return error_set(err, EINVAL, "config.json: process is missing: nothing could be started");
	if (oci_process_plan(s->arena, s->process, s->linux_, cache, &l->plan, err) < 0 ||
	    check_options(l, err) < 0 ||
	    oci_namespaces_open(s, &l->namespaces, err) < 0 || oci_mounts_open(s, l->c->rootfs, &l->mounts,
	    err) < 0 ||
	    oci_container_cgroup_create(l->c, &l->cgroup, err) < 0)
		return -err->code;
	if (oci_resources_apply(s->arena, l->cgroup, s->linux_->resources, false, err) < 0 ||
	    listen_for_start(l->c, &l->listen_fd, err) < 0)
		return -err->code;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, l->sock) < 0)
		return error_set(err, errno, "socketpair: %s", strerror(errno));
	return 0;
}

/* Until the program runs, nothing of ours can be looked at from the container. */
static _Noreturn void go_between(struct oci_launch *l)
{
	struct clone_args args = { .flags = CLONE_PARENT | (l->namespaces.create & CLONE_NEWPID) };
	struct error err = { 0 }, ignored;
	int32_t pid = -1;

	(void)prctl(PR_SET_DUMPABLE, 0);
	if (cgroup_join(l->cgroup, 0, &err) == 0 && oci_namespaces_enter(&l->namespaces, l->sock[1], &err) == 0) {
		pid = (int32_t)syscall(SYS_clone3, &args, sizeof(args));
		if (pid == 0)
			oci_init_main(l);
		if (pid < 0)
			(void)error_set(&err, errno, "fork: %s", strerror(errno));
	}
	if (pid > 0)
		(void)fd_send_msg(l->sock[1], &pid, sizeof(pid), NULL, 0, &ignored);
	else
		(void)fd_send_msg(l->sock[1], &err, sizeof(err), NULL, 0, &ignored);
	_exit(0);
}

static int on_mounted(struct oci_launch *l, struct error *err)
{
	const struct oci_hooks *hooks = l->c->spec->hooks;
	int32_t pid = l->c->pid;

	l->mounted = false;
	if (oci_process_attributes(&l->plan, pid, err) < 0)
		return -err->code;
	if (hooks && (oci_hooks_run(&hooks->prestart, "prestart", l->c, OCI_CREATING, err) < 0 ||
		      oci_hooks_run(&hooks->create_runtime, "createRuntime", l->c, OCI_CREATING, err) < 0))
		return -err->code;
	return fd_send_msg(l->sock[0], &pid, sizeof(pid), NULL, 0, err);
}

static int on_prepared(struct oci_launch *l, int master, int *ret_terminal, struct error *err)
{
	struct oci_container *c = l->c;
	char go = OCI_GO;

	if (oci_terminal_hand_over(l->o, master, ret_terminal, err) < 0 || oci_container_save(c, err) < 0 ||
	    (l->o->pid_file && oci_write_pid_file(l->o->pid_file, c->pid, err) < 0))
		return -err->code;
	return fd_send_msg(l->sock[0], &go, 1, NULL, 0, err);
}

static void on_pid(struct oci_launch *l, const void *data)
{
	int32_t pid;

	memcpy(&pid, data, sizeof(pid));
	l->c->pid = pid;
	l->c->pid_start = container_pid_start(pid);
	oci_scope_leave(&l->c->placeholder);
}

static int help(struct oci_launch *l, char what, pid_t between, struct error *err)
{
	char done = OCI_GO;

	if (oci_namespaces_help(&l->namespaces, what, between, err) < 0)
		return -err->code;
	return fd_send_msg(l->sock[0], &done, 1, NULL, 0, err);
}

/* 1: prepared, and told to go on. */
static int on_message(struct oci_launch *l, pid_t between, const struct error *said, ssize_t n, int *fd,
		      int *ret_terminal, struct error *err)
{
	char what = *(const char *)said;

	if (n == 0)
		return error_set(err, ECHILD, "the container's init died while it was being set up");
	if (n == sizeof(*said)) {
		*err = *said;
		err->msg[sizeof(err->msg) - 1] = '\0';
		return -err->code;
	}
	if (n == sizeof(int32_t))
		on_pid(l, said);
	if (n == 1 && what == OCI_MOUNTED)
		l->mounted = true;
	if (n == sizeof(int32_t) || (n == 1 && what == OCI_MOUNTED))
		return l->mounted && l->c->pid > 0 ? on_mounted(l, err) : 0;
	if (n == 1 && (what == OCI_ASK_MAPS || what == OCI_ASK_TIME))
		return help(l, what, between, err);
	if (n == 1 && what == OCI_PREPARED && l->c->pid > 0)
		return on_prepared(l, TAKE_FD(*fd), ret_terminal, err) < 0 ? -err->code : 1;
	return error_set(err, EPROTO, "the container's init says what it should not");
}

static int drive(struct oci_launch *l, pid_t between, int *ret_terminal, struct error *err)
{
	int r = 0;

	while (r == 0) {
		CLEANUP(fd_closep) int fd = -EBADF;
		struct error said;
		ssize_t n = fd_recv_msg(l->sock[0], &said, sizeof(said), &fd, 1, err);

		if (n < 0)
			return (int)n;
		r = on_message(l, between, &said, n, &fd, ret_terminal, err);
	}
	return r < 0 ? r : 0;
}

static int launch(struct oci_launch *l, int *ret_terminal, struct error *err)
{
	struct clone_args args = { .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD,
				   .cgroup = (uint64_t)cgroup_fd(l->cgroup) };
	pid_t between = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	int r;

	if (between == 0) {
		fd_close(&l->sock[0]);
		go_between(l);
	}
	fd_close(&l->sock[1]);
	r = between < 0 ? error_set(err, errno, "clone: %s", strerror(errno)) : drive(l, between, ret_terminal, err);
	fd_close(&l->sock[0]);
	if (between > 0)
		(void)waitpid(between, NULL, 0);
	if (r < 0 && l->c->pid > 0) {
		(void)kill(l->c->pid, SIGKILL);
		(void)waitpid(l->c->pid, NULL, __WALL);
	}
	return r;
}

int oci_create(struct oci_container *c, const struct oci_launch_options *o, int *ret_terminal, struct error *err)
{
	struct oci_launch l = { .c = c, .o = o, .listen_fd = -EBADF, .sock = { -EBADF, -EBADF },
				.mounts = { .root_fd = -EBADF } };
	struct error ignored;
	int r;

	for (size_t i = 0; i < OCI_NAMESPACES_MAX; i++)
		l.namespaces.fds[i] = -EBADF;
	r = prepare(&l, err);
	if (r == 0)
		r = launch(&l, ret_terminal, err);
	launch_close(&l);
	oci_scope_leave(&c->placeholder);
	if (r < 0)
		(void)oci_container_destroy(c, &ignored);
	return r;
}

int oci_start(const struct oci_container *c, struct error *err)
{
	const struct oci_hooks *hooks = c->spec->hooks;
	CLEANUP(fd_closep) int sock = -EBADF;
	char go = OCI_GO;

	if (oci_container_connect(c, &sock, err) < 0)
		return -err->code;
	if (fd_send_msg(sock, &go, 1, NULL, 0, err) < 0 ||
	    oci_await_program(sock, c, c->spec->linux_->seccomp, c->pid, err) < 0) {
		(void)unlinkat(c->dir_fd, OCI_START_SOCKET, 0);
		return error_wrap(err, "container '%s'", c->id);
	}
	if (unlinkat(c->dir_fd, OCI_START_SOCKET, 0) < 0 && errno != ENOENT)
		return error_set(err, errno, "remove %s: %s", OCI_START_SOCKET, strerror(errno));
	return hooks ? oci_hooks_run(&hooks->poststart, "poststart", c, OCI_RUNNING, err) : 0;
}

int oci_delete(const struct oci_container *c, struct error *err)
{
	const struct oci_hooks *hooks = c->spec->hooks;
	struct error ignored;

	if (oci_container_destroy(c, err) < 0)
		return -err->code;
	if (hooks)
		OCI_EACH(struct oci_hook, h, hooks->poststop) {
			const struct oci_list one = { (void *)(uintptr_t)h, 1 };

			(void)oci_hooks_run(&one, "poststop", c, OCI_STOPPED, &ignored);
		}
	return 0;
}
