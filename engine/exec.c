#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "engine/base/fd.h"
#include "engine/exec.h"
#include "engine/process.h"
#include "engine/seccomp.h"
#include "engine/terminal.h"

/* What one exec works with; all of it is prepared before the fork. */
struct session {
	const struct container *container;
	const struct exec_plan *plan;
	struct process process;
	struct cgroup *cgroup;
	int leaf_fd;			/* of the cgroup, when it has ones inside; else -EBADF */
	uint32_t *groups;
	struct sock_fprog filter;
	int init_fd;			/* pidfd of the container's init */
	int root_fd;			/* its root directory */
	int theirs[3], ours[3];		/* ends of the pipes */
	int terminal;
};

static void session_close(struct session *s)
{
	for (int i = 0; i < 3; i++) {
		fd_close(&s->theirs[i]);
		fd_close(&s->ours[i]);
	}
	fd_close(&s->terminal);
	fd_close(&s->leaf_fd);
	fd_close(&s->init_fd);
	fd_close(&s->root_fd);
	cgroup_free(s->cgroup);
	free(s->groups);
	free(s->filter.filter);
}

/* The start time, looked at after the pidfd is open, tells that the pid is
 * still the container's. */
static int open_init(const struct container *c, const struct container_state *st, int *ret_init,
		     int *ret_root, struct error *err)
{
	CLEANUP(fd_closep) int init = pidfd_open(st->pid, 0), root = -EBADF;
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/%d/root", (int)st->pid);
	if (init >= 0)
		root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0 || container_pid_start(st->pid) != st->pid_start)
		return error_set(err, ESRCH, "container '%s': its first process is gone", c->name);
	*ret_init = TAKE_FD(init);
	*ret_root = TAKE_FD(root);
	return 0;
}

int exec_find_home(const struct container *c, const struct container_state *st, const char *user,
		   char ret_home[256], struct error *err)
{
	CLEANUP(fd_closep) int init = -EBADF, root = -EBADF;
	CLEANUP(freep) uint32_t *groups = NULL;
	uint32_t uid, gid;
	size_t n;

	if (open_init(c, st, &init, &root, err) < 0)
		return -err->code;
	return process_find_user(root, user, &uid, &gid, &groups, &n, ret_home, err);
}

static int find_user(struct session *s, struct error *err)
{
	const struct spec *spec = s->container->spec;
	char home[256];

	if (s->plan->user)
		return process_find_user(s->root_fd, s->plan->user, &s->process.uid, &s->process.gid,
					 &s->groups, &s->process.n_groups, home, err);
	s->process.uid = spec->uid;
	s->process.gid = spec->gid;
	s->process.n_groups = spec->n_groups;
	return 0;
}

static int open_pipes(struct session *s, struct error *err)
{
	const struct userns *u = &s->container->spec->userns;

	for (int i = s->plan->input ? 0 : 1; i < 3; i++) {
		int p[2];

		if (pipe2(p, O_CLOEXEC) < 0)
			return error_set(err, errno, "pipe: %s", strerror(errno));
		s->ours[i] = p[i == 0];
		s->theirs[i] = p[i != 0];
		(void)fchown(p[0], id_map_host(&u->uids, s->process.uid), id_map_host(&u->gids, s->process.gid));
	}
	return 0;
}

static int prepare(struct session *s, const struct container_state *st, struct error *err)
{
	const struct container *c = s->container;
	CLEANUP(fd_closep) int cache = openat(c->node->state_fd, "cache", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (open_init(c, st, &s->init_fd, &s->root_fd, err) < 0 ||
	    container_cgroup(c, false, &s->cgroup, err) < 0 || find_user(s, err) < 0 ||
	    (c->spec->nested && cgroup_open_leaf(s->cgroup, &s->leaf_fd, err) < 0) ||
	    seccomp_filter(cache, c->spec->capabilities, &s->filter, err) < 0)
		return -err->code;
	s->process.args = s->plan->args;
	s->process.env = s->plan->env;
	s->process.cwd = s->plan->cwd;
	s->process.groups = s->groups ? s->groups : c->spec->groups;
	s->process.capabilities = capability_sets_for(c->spec->capabilities, s->process.uid);
	s->process.umask = 0022;
	s->process.filter = &s->filter;
	return s->plan->terminal || s->plan->quiet ? 0 : open_pipes(s, err);
}

static int take_stdio(const struct session *s, int slave, struct error *err)
{
	CLEANUP(fd_closep) int null_fd = -EBADF;

	if (process_open_null(&null_fd, err) < 0)
		return -err->code;
	for (int i = 0; i < 3; i++)
		if (dup2(slave >= 0 ? slave : s->theirs[i] >= 0 ? s->theirs[i] : null_fd, i) < 0)
			return error_set(err, errno, "set up stdio: %s", strerror(errno));
	if (slave >= 0 && ioctl(0, TIOCSCTTY, 0) < 0)
		return error_set(err, errno, "take the terminal: %s", strerror(errno));
	return 0;
}

/* In the container; the socket ends with the exec. */
static int program(const struct session *s, int sock, struct error *err)
{
	CLEANUP(fd_closep) int master = -EBADF, slave = -EBADF;
	char byte = 't';

	if (setsid() < 0)
		return error_set(err, errno, "setsid: %s", strerror(errno));
	if (s->plan->terminal) {
		if (terminal_open("/dev/pts", &master, &slave, err) < 0 ||
		    fd_send_msg(sock, &byte, 1, &master, 1, err) < 0)
			return -err->code;
		fd_close(&master);
	}
	if (take_stdio(s, slave, err) < 0 || process_leave_host(sock, err) < 0)
		return -err->code;
	return process_become(&s->process, err);
}

static _Noreturn void die_saying(int sock, const struct error *err)
{
	struct error ignored;

	(void)fd_send_msg(sock, err, sizeof(*err), NULL, 0, &ignored);
	_exit(1);
}

/* The mount namespace brings its root along. */
static int enter(const struct session *s, struct error *err)
{
	const bool user = userns_is_own(&s->container->spec->userns);
	const int all = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC |
			CLONE_NEWCGROUP | (user ? CLONE_NEWUSER : 0);

	(void)prctl(PR_SET_DUMPABLE, 0);
	if ((s->leaf_fd >= 0 ? cgroup_join_v1(s->cgroup, err) : cgroup_join(s->cgroup, 0, err)) < 0)
		return -err->code;
	if (setns(s->init_fd, all) < 0)
		return error_set(err, errno, "enter its namespaces: %s", strerror(errno));
	return user ? userns_take_root(err) : 0;
}

/* Enters the namespaces and forks the program, since only a child gets into
 * a pid namespace: as our parent's child, so that it can be waited for. */
static _Noreturn void go_between(const struct session *s, int sock)
{
	struct clone_args args = { .flags = CLONE_PARENT };
	struct error err = { 0 };
	int32_t pid;

	if (enter(s, &err) < 0)
		die_saying(sock, &err);
	pid = (int32_t)syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0) {
		(void)program(s, sock, &err);
		die_saying(sock, &err);
	}
	if (pid < 0)
		(void)error_set(&err, errno, "fork: %s", strerror(errno));
	if (pid < 0)
		die_saying(sock, &err);
	_exit(fd_send_msg(sock, &pid, sizeof(pid), NULL, 0, &err) < 0);
}

/* Until the program runs: its pid, its terminal, perhaps an error, then the
 * end. In any order but the last. */
static int hear(int sock, pid_t *ret_pid, int *ret_terminal, struct error *err)
{
	struct error said;
	int32_t pid;

	for (;;) {
		CLEANUP(fd_closep) int fd = -EBADF;
		ssize_t n = fd_recv_msg(sock, &said, sizeof(said), &fd, 1, err);

		if (n < 0)
			return (int)n;
		if (n == 0)
			return *ret_pid > 0 ? 0 : error_set(err, ECHILD, "the process died while it was set up");
		if (n == sizeof(said)) {
			*err = said;
			err->msg[sizeof(err->msg) - 1] = '\0';
			return -err->code;
		}
		if (n == sizeof(pid)) {
			memcpy(&pid, &said, sizeof(pid));
			*ret_pid = pid;
		} else {
			*ret_terminal = TAKE_FD(fd);
		}
	}
}

static int start(struct session *s, pid_t *ret_pid, struct error *err)
{
	struct clone_args args = { .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD,
				   .cgroup = (uint64_t)(s->leaf_fd >= 0 ? s->leaf_fd : cgroup_fd(s->cgroup)) };
	int sock[2], r;
	pid_t between;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) < 0)
		return error_set(err, errno, "socketpair: %s", strerror(errno));
	between = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (between == 0) {
		(void)close(sock[0]);
		go_between(s, sock[1]);
	}
	fd_close(&sock[1]);
	r = between < 0 ? error_set(err, errno, "clone: %s", strerror(errno)) :
			  hear(sock[0], ret_pid, &s->terminal, err);
	fd_close(&sock[0]);
	if (between > 0)
		(void)waitpid(between, NULL, 0);
	return r;
}

int exec_start(const struct container *c, const struct container_state *st,
	       const struct exec_plan *plan, struct exec *ret, struct error *err)
{
	struct session s = {
		.container = c, .plan = plan, .init_fd = -EBADF, .root_fd = -EBADF, .terminal = -EBADF,
		.leaf_fd = -EBADF,
		.theirs = { -EBADF, -EBADF, -EBADF }, .ours = { -EBADF, -EBADF, -EBADF },
	};
	pid_t pid = 0;
	int r = prepare(&s, st, err);

	if (r == 0)
		r = start(&s, &pid, err);
	if (r < 0 && pid > 0)
		(void)waitpid(pid, NULL, 0);
	if (r == 0) {
		ret->pid = pid;
		ret->terminal = TAKE_FD(s.terminal);
		for (int i = 0; i < 3; i++)
			ret->fds[i] = TAKE_FD(s.ours[i]);
	}
	session_close(&s);
	return r < 0 ? error_wrap(err, "container '%s'", c->name) : 0;
}
