#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "engine/base/clock.h"
#include "engine/base/fault.h"
#include "engine/base/fd.h"
#include "engine/monitor_state.h"
#include "engine/nat.h"
#include "engine/placement.h"

#define KILL_TIMEOUT_US 10000000
#define PIPE_BYTES (256 * 1024)

/* Away from the terminal, the session, the folder and the descriptors of
 * whoever started us. */
static int detach_self(const struct monitor *m, struct error *err)
{
	const struct container *c = m->setup.container;
	const int keep[] = { 0, 1, 2, c->node->state_fd, c->node->containers_fd, c->dir_fd,
			     m->setup.control };
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)prctl(PR_SET_NAME, "godwit-monitor");
	if (setsid() < 0 || chdir("/") < 0 || null_fd < 0)
		return error_set(err, errno, "detach the monitor: %s", strerror(errno));
	for (int i = 0; i < 3; i++)
		(void)dup2(null_fd, i);
	return fd_close_all_except(keep, sizeof(keep) / sizeof(*keep), err);
}

static int take_signals(struct monitor *m, struct error *err)
{
	sigset_t set;

	(void)signal(SIGPIPE, SIG_IGN);
	(void)sigfillset(&set);
	(void)sigprocmask(SIG_UNBLOCK, &set, NULL);
	for (const int *s = (const int[]){ SIGINT, SIGTERM, SIGQUIT, SIGHUP, 0 }; *s; s++)
		(void)signal(*s, SIG_IGN);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	m->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return m->signal_fd < 0 ? error_set(err, errno, "signalfd: %s", strerror(errno)) : 0;
}

static int open_socket(struct monitor *m, struct error *err)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int dir = m->setup.container->dir_fd;

	(void)unlinkat(dir, "monitor.sock", 0);
	m->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	(void)snprintf(sun.sun_path, sizeof(sun.sun_path), "/proc/self/fd/%d/monitor.sock", dir);
	if (m->listen_fd < 0 || bind(m->listen_fd, (struct sockaddr *)&sun, sizeof(sun)) < 0 ||
	    listen(m->listen_fd, 16) < 0)
		return error_set(err, errno, "monitor socket: %s", strerror(errno));
	return 0;
}

static int open_pipe(struct monitor *m, int i, struct error *err)
{
	struct stat st;
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return error_set(err, errno, "pipe: %s", strerror(errno));
	m->pipes[i] = p[i == 0];
	m->setup.stdio[i] = p[i != 0];
	(void)fcntl(m->pipes[i], F_SETFL, O_NONBLOCK);
	(void)fcntl(m->pipes[i], F_SETPIPE_SZ, PIPE_BYTES);
	if (fstat(m->pipes[i], &st) < 0)
		return error_set(err, errno, "pipe: %s", strerror(errno));
	m->pipe_inodes[i] = st.st_ino;
	return 0;
}

static int open_stdio(struct monitor *m, struct error *err)
{
	const struct spec *s = m->setup.container->spec;

	for (int i = s->stdin_open ? 0 : 1; !s->terminal && i < 3; i++)
		if (open_pipe(m, i, err) < 0)
			return -err->code;
	return 0;
}

static int open_resources(struct monitor *m, struct error *err)
{
	struct monitor_setup *s = &m->setup;
	const struct node_config *config = &s->container->node->config;

	container_endpoint(s->container, &s->endpoint);
	/* The name is this container's own: one that is there is still going away. */
	if (if_nametoindex(s->endpoint.host_ifname) &&
	    network_detach(s->endpoint.host_ifname, err) < 0)
		return -err->code;
	if (container_cgroup(s->container, true, &s->cgroup, err) < 0)
		return -err->code;
	if (s->endpoint.network[0] ? placement_refresh(s->container->node, s->endpoint.network, err) < 0 :
	    s->endpoint.bridge[0] &&
	    network_bridge_ensure(s->endpoint.bridge, config->bridge_address, err) < 0)
		return -err->code;
	return network_namespace_create(&s->netns_fd, err);
}

static int record_start(struct monitor *m, struct error *err)
{
	struct container_state *st = &m->state;
	int r = container_state(m->setup.container, st, err);

	container_state_stamp(st, m->pid, getpid());
	st->status = CONTAINER_RUNNING;
	st->reason[0] = '\0';
	st->exit_code = -1;
	st->started_us = st->started_us ? st->started_us : clock_real_us();
	st->finished_us = 0;
	return r < 0 ? r : container_state_write(m->setup.container, st, err);
}

/* Those on its network learn its name, or that it is gone. */
static void tell_names(const struct monitor *m)
{
	const char *network = m->setup.endpoint.network;
	struct error ignored;

	if (network[0])
		(void)placement_refresh(m->setup.container->node, network, &ignored);
}

static int bring_up(struct monitor *m, const struct monitor_plan *plan, struct error *err)
{
	if (detach_self(m, err) < 0 || take_signals(m, err) < 0 || open_socket(m, err) < 0 ||
	    open_stdio(m, err) < 0 || open_resources(m, err) < 0 ||
	    plan->start(&m->setup, plan->ctx, &m->pid, &m->terminal_fd, err) < 0)
		return -err->code;
	/* Not before: a restore brings the log along, as another file. */
	if (output_open(m->setup.container->dir_fd, &m->output, err) < 0)
		return -err->code;
	for (int i = 0; i < 3; i++)
		fd_close(&m->setup.stdio[i]);
	if (m->terminal_fd >= 0)
		(void)fcntl(m->terminal_fd, F_SETFL, O_NONBLOCK);
	m->unwritten = record_start(m, err) < 0;
	tell_names(m);
	return m->unwritten && !m->setup.irrevocable ? -err->code : 0;
}

static void close_all(struct monitor *m)
{
	for (int i = 0; i < 3; i++) {
		fd_close(&m->pipes[i]);
		fd_close(&m->setup.stdio[i]);
	}
	fd_close(&m->terminal_fd);
	fd_close(&m->setup.netns_fd);
	fd_close(&m->listen_fd);
	output_close(&m->output);
}

/* Everything but the folder. Errors have nobody to go to any more, but the
 * next command that looks cleans again. */
static void tear_down(struct monitor *m)
{
	struct error ignored;

	if (m->setup.cgroup)
		(void)cgroup_kill(m->setup.cgroup, KILL_TIMEOUT_US, &ignored);
	fault_pass("monitor-killed");
	/* Also one that never came into the cgroup; only a child of ours. */
	if (m->pid > 0 && !m->done && waitpid(m->pid, &m->wait_status, WNOHANG) == 0) {
		(void)kill(m->pid, SIGKILL);
		(void)waitpid(m->pid, &m->wait_status, 0);
	}
	fd_close(&m->setup.netns_fd);	/* the namespace goes while we do the rest */
	monitor_drain(m);
	(void)output_flush(&m->output, &ignored);
	if (m->setup.cgroup)
		(void)cgroup_remove(m->setup.cgroup, &ignored);
	(void)unlinkat(m->setup.container->dir_fd, "monitor.sock", 0);
	close_all(m);
	fault_pass("monitor-cleaned");
}

/* The kernel takes some 10 ms for it, so those who wait are told before. */
static void release_network(const struct monitor *m)
{
	struct error ignored;

	if (!m->setup.endpoint.bridge[0])
		return;
	(void)nat_detach(&m->setup.endpoint, &ignored);
	(void)network_release(m->setup.endpoint.host_ifname, &ignored);
}

static void record_exit(struct monitor *m)
{
	struct container_state *st = &m->state;
	struct error ignored;

	st->status = CONTAINER_EXITED;
	st->pid = 0;
	st->monitor_pid = 0;
	st->finished_us = clock_real_us();
	(void)container_state_write(m->setup.container, st, &ignored);
}

static void remove_folder(struct monitor *m)
{
	m->end_code = container_remove_folder(m->setup.container, &m->end_error);
}

static void fail_start(struct monitor *m, const struct monitor_plan *plan, struct error *err)
{
	struct error ignored;

	tear_down(m);
	release_network(m);
	(void)snprintf(m->state.reason, sizeof(m->state.reason), "%.*s",
		       (int)sizeof(m->state.reason) - 1, err->msg);
	if (!plan->keep_on_failure)
		remove_folder(m);
	else
		record_exit(m);
	(void)monitor_send(m->setup.control, MONITOR_STARTED, (uint64_t[4]){ (uint64_t)err->code },
			   err->msg, strlen(err->msg), -EBADF, &ignored);
}

static void live(struct monitor *m, bool attach)
{
	struct error ignored;
	int i;

	fault_pass("monitor-live");
	(void)monitor_send(m->setup.control, MONITOR_STARTED, (uint64_t[4]){ 0, (uint64_t)m->pid }, NULL, 0,
			   -EBADF, &ignored);
	i = monitor_add_client(m, TAKE_FD(m->setup.control));
	if (i >= 0)
		m->clients[i].attached = attach;
	monitor_loop(m);
	tear_down(m);
	if (m->discarded || m->setup.container->spec->auto_remove)
		remove_folder(m);
	else
		record_exit(m);
	monitor_tell_exit(m);
	fault_pass("monitor-told");
	release_network(m);
	tell_names(m);
}

static _Noreturn void monitor_main(struct container *c, const struct monitor_plan *plan, int control)
{
	struct monitor m = {
		.setup = { .container = c, .netns_fd = -EBADF, .stdio = { -EBADF, -EBADF, -EBADF },
			   .control = control, .guard = MONITOR_GUARD_NONE },
		.listen_fd = -EBADF, .signal_fd = -EBADF, .pipes = { -EBADF, -EBADF, -EBADF },
		.terminal_fd = -EBADF, .output = { .fd = -EBADF },
		.lease = { .client_fd = -EBADF, .tracer_fd = -EBADF },
	};
	struct error err = { 0 };

	fault_role("monitor");
	if (bring_up(&m, plan, &err) < 0)
		fail_start(&m, plan, &err);
	else
		live(&m, plan->attach);
	_exit(0);
}

int monitor_spawn(struct container *c, const struct monitor_plan *plan, int *ret_control,
		  struct error *err)
{
	int sock[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) < 0)
		return error_set(err, errno, "socketpair: %s", strerror(errno));
	pid = fork();
	if (pid == 0) {
		c->lock_fd = -EBADF;	/* closed with all that is not ours */
		monitor_main(c, plan, sock[1]);
	}
	(void)close(sock[1]);
	if (pid < 0) {
		(void)close(sock[0]);
		return error_set(err, errno, "fork the monitor: %s", strerror(errno));
	}
	*ret_control = sock[0];
	return 0;
}
