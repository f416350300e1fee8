/* One more process in an OCI container: oci_launch.h. */
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "engine/base/fd.h"
#include "engine/oci/oci_launch.h"

struct session {
	const struct oci_container *c;
	const struct oci_launch_options *o;
	struct oci_process_plan plan;
	struct cgroup *cgroup;
	int init_fd;			/* pidfd */
	int proc_fd;			/* the host's /proc */
	int sock[2];
	pid_t pid;
	bool prepared;
	int master;
};

static void session_close(struct session *s)
{
	cgroup_free(s->cgroup);
	fd_close(&s->init_fd);
	fd_close(&s->proc_fd);
	fd_close(&s->sock[0]);
	fd_close(&s->sock[1]);
	fd_close(&s->master);
	free(s->plan.filter.filter);
}

static int prepare(struct session *s, const struct oci_process *p, struct error *err)
{
	const struct oci_container *c = s->c;
	CLEANUP(fd_closep) int cache = oci_container_cache(c);

	if (oci_process_plan(c->spec->arena, p, c->spec->linux_, cache, &s->plan, err) < 0 ||
	    oci_container_pidfd(c, &s->init_fd, err) < 0 || oci_container_cgroup(c, &s->cgroup, err) < 0)
		return -err->code;
	s->plan.process.set_personality = false;	/* of the first process only */
	s->plan.process.keep_fds = s->o->preserve_fds;
	s->proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (s->proc_fd < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s->sock) < 0)
		return error_set(err, errno, "socketpair: %s", strerror(errno));
	return 0;
}

static int program(struct session *s, struct error *err)
{
	CLEANUP(fd_closep) int master = -EBADF, slave = -EBADF;
	struct process *p = &s->plan.process;
	char what = OCI_PREPARED;
	struct error ignored;

	if (setsid() < 0)
		return error_set(err, errno, "setsid: %s", strerror(errno));
	if (p->label)
		p->label_fd = openat(s->proc_fd, "thread-self/attr/exec", O_WRONLY | O_CLOEXEC);
	if (oci_terminal_open(s->plan.spec, &master, &slave, err) < 0 ||
	    fd_send_msg(s->sock[1], &what, 1, &master, master >= 0, err) < 0)
		return -err->code;
	if (fd_read_full(s->sock[1], &what, 1, &ignored) < 0)
		_exit(1);
	fd_close(&master);
	if (oci_terminal_take(s->plan.spec, slave, err) < 0)
		return -err->code;
	p->listener_sock = s->sock[1];
	return process_become(p, err);
}

static _Noreturn void go_between(struct session *s)
{
	struct clone_args args = { .flags = CLONE_PARENT };
	struct error err = { 0 }, ignored;
	int32_t pid = -1;

	(void)prctl(PR_SET_DUMPABLE, 0);
	if (cgroup_join(s->cgroup, 0, &err) == 0 &&
	    oci_namespaces_join_process(s->init_fd, s->c->pid, &err) == 0) {
		pid = (int32_t)syscall(SYS_clone3, &args, sizeof(args));
		if (pid < 0)
			(void)error_set(&err, errno, "fork: %s", strerror(errno));
	}
	if (pid == 0)
		(void)program(s, &err);
	if (pid > 0)
		(void)fd_send_msg(s->sock[1], &pid, sizeof(pid), NULL, 0, &ignored);
	else
		(void)fd_send_msg(s->sock[1], &err, sizeof(err), NULL, 0, &ignored);
	_exit(1);
}

/* Until it is prepared and its pid is known, in either order. */
static int hear(struct session *s, struct error *err)
{
	while (s->pid == 0 || !s->prepared) {
		struct error said;
		ssize_t n = fd_recv_msg(s->sock[0], &said, sizeof(said), s->master < 0 ? &s->master : NULL,
					s->master < 0, err);

		if (n < 0)
			return (int)n;
		if (n == 0)
			return error_set(err, ECHILD, "the process died while it was set up");
		if (n == sizeof(said)) {
			*err = said;
			err->msg[sizeof(err->msg) - 1] = '\0';
			return -err->code;
		}
		if (n == sizeof(int32_t))
			memcpy(&s->pid, &said, sizeof(int32_t));
		else
			s->prepared = true;
	}
	return 0;
}

static int let_run(struct session *s, int *ret_terminal, struct error *err)
{
	char go = OCI_GO;

	if (oci_process_attributes(&s->plan, s->pid, err) < 0 ||
	    oci_terminal_hand_over(s->o, TAKE_FD(s->master), ret_terminal, err) < 0 ||
	    fd_send_msg(s->sock[0], &go, 1, NULL, 0, err) < 0 ||
	    oci_await_program(s->sock[0], s->c, s->c->spec->linux_->seccomp, s->pid, err) < 0)
		return -err->code;
	return s->o->pid_file ? oci_write_pid_file(s->o->pid_file, s->pid, err) : 0;
}

static int start(struct session *s, int *ret_terminal, struct error *err)
{
	struct clone_args args = { .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD,
				   .cgroup = (uint64_t)cgroup_fd(s->cgroup) };
	pid_t between = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	int r;

	if (between == 0) {
		fd_close(&s->sock[0]);
		go_between(s);
	}
	fd_close(&s->sock[1]);
	r = between < 0 ? error_set(err, errno, "clone: %s", strerror(errno)) : hear(s, err);
	if (r == 0)
		r = let_run(s, ret_terminal, err);
	fd_close(&s->sock[0]);
	if (between > 0)
		(void)waitpid(between, NULL, 0);
	if (r < 0 && s->pid > 0) {
		(void)kill(s->pid, SIGKILL);
		(void)waitpid(s->pid, NULL, __WALL);
	}
	return r;
}

int oci_exec(const struct oci_container *c, const struct oci_process *process,
	     const struct oci_launch_options *o, pid_t *ret_pid, int *ret_terminal, struct error *err)
{
	struct session s = { .c = c, .o = o, .init_fd = -EBADF, .proc_fd = -EBADF, .master = -EBADF,
			     .sock = { -EBADF, -EBADF } };
	int r = prepare(&s, process, err);

	if (r == 0)
		r = start(&s, ret_terminal, err);
	if (r == 0)
		*ret_pid = s.pid;
	session_close(&s);
	return r < 0 ? error_wrap(err, "container '%s'", c->id) : 0;
}
