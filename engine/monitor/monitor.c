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
#include "engine/init.h"
#include "engine/monitor/monitor_state.h"
#include "engine/network/nat.h"
#include "engine/network/placement.h"

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

int monitor_listen(struct monitor *m, struct error *err)
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
	const struct spec *s = m->setup.container->spec;
	struct stat st;
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return error_set(err, errno, "pipe: %s", strerror(errno));
	m->pipes[i] = p[i == 0];
	m->setup.stdio[i] = p[i != 0];
	(void)fcntl(m->pipes[i], F_SETFL, O_NONBLOCK);
	(void)fcntl(m->pipes[i], F_SETPIPE_SZ, PIPE_BYTES);
	/* It may be opened once more, as /dev/stdout. */
	(void)fchown(m->setup.stdio[i], id_map_host(&s->userns.uids, s->uid), id_map_host(&s->userns.gids, s->gid));
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

/* The network namespace belongs to the user namespace. */
static int open_namespaces(struct monitor_setup *s, struct error *err)
{
	const struct userns *u = &s->container->spec->userns;

	if (!userns_is_own(u))
		return network_namespace_create(&s->netns_fd, err);
	return userns_create(u, &s->userns_fd, &s->netns_fd, err) < 0 ? -err->code :
		network_namespace_set_up(s->netns_fd, id_map_host(&u->gids, 0), err);
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
	return open_namespaces(s, err);
}

static int record_start(struct monitor *m, struct error *err)
{
	struct container_state *st = &m->state;
	int r = container_state(m->setup.container, st, err);

	container_state_stamp(st, m->pid, getpid());
	st->status = CONTAINER_RUNNING;
	st->reason[0] = '\0';
	st->exit_code = -1;
	if (!st->started_us) {		/* else it was restored, and is what it was */
		st->oom_kills = 0;
		st->health = (struct health){ .status = m->setup.container->spec->health.command ? HEALTH_STARTING :
										   HEALTH_NONE };
		st->started_us = clock_real_us();
	}
	st->finished_us = 0;
	memcpy(st->stdio, m->pipe_inodes, sizeof(st->stdio));
	return r < 0 ? r : container_state_write(m->setup.container, st, err);
}

/* Those on its network learn its name, or that it is gone. */
static void tell_names(const struct monitor *m)
{
	const char *network = m->setup.endpoint.network;
	struct error ignored;

	if (!network[0])
		return;
	(void)placement_refresh(m->setup.container->node, network, &ignored);
	placement_knock(m->setup.container->node);
}

static int bring_up(struct monitor *m, monitor_start_fn start, void *ctx, struct error *err)
{
	(void)unlinkat(m->setup.container->dir_fd, MONITOR_FILLING, 0);	/* of the life before */
	if (monitor_listen(m, err) < 0 || open_stdio(m, err) < 0 || open_resources(m, err) < 0 ||
	    start(&m->setup, ctx, &m->pid, &m->terminal_fd, err) < 0)
		return -err->code;
	/* Not before: a restore brings the log along, as another file. */
	if (output_open(m->setup.container->dir_fd, &m->output, err) < 0)
		return -err->code;
	for (int i = 0; i < 3; i++)
		fd_close(&m->setup.stdio[i]);
	if (m->terminal_fd >= 0)
		(void)fcntl(m->terminal_fd, F_SETFL, O_NONBLOCK);
	monitor_health_begin(m);
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
	fd_close(&m->pidfd);
	fd_close(&m->setup.netns_fd);
	fd_close(&m->setup.userns_fd);
	fd_close(&m->listen_fd);
	output_close(&m->output);
}

/* What was killed for its memory, on top of what was before this monitor. When it was
 * the init itself, or all at once, that is why the container has ended. */
static void count_oom_kills(struct monitor *m)
{
	struct cgroup_usage u;
	struct error ignored;

	if (!m->setup.cgroup || cgroup_get_usage(m->setup.cgroup, &u, &ignored) < 0 || !u.oom_kills)
		return;
	m->state.oom_kills += (uint32_t)u.oom_kills;
	if (m->done && WIFSIGNALED(m->wait_status) && WTERMSIG(m->wait_status) == SIGKILL && !m->state.reason[0] &&
	    !m->state.stopped)
		(void)snprintf(m->state.reason, sizeof(m->state.reason),
			       "out of memory: the kernel killed it at its limit of %llu bytes",
			       (unsigned long long)m->setup.container->spec->limits.memory_bytes);
}

/* Everything but the folder. Errors have nobody to go to any more, but the
 * next command that looks cleans again. */
static void tear_down(struct monitor *m)
{
	struct error ignored;

	(void)monitor_health_pause(m, &ignored);
	count_oom_kills(m);
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

static void record_exit(struct monitor *m, enum container_status status)
{
	struct container_state *st = &m->state;
	struct error ignored;

	st->status = status;
	container_state_stamp(st, 0, status == CONTAINER_RESTARTING ? getpid() : 0);
	st->finished_us = clock_real_us();
	(void)container_state_write(m->setup.container, st, &ignored);
}

static void remove_folder(struct monitor *m)
{
	m->end_code = container_remove_folder(m->setup.container, &m->end_error);
}

static void undo_start(struct monitor *m, const struct monitor_plan *plan, const struct error *err)
{
	tear_down(m);
	release_network(m);
	(void)snprintf(m->state.reason, sizeof(m->state.reason), "%.*s",
		       (int)sizeof(m->state.reason) - 1, err->msg);
	if (!plan->keep_on_failure)
		remove_folder(m);
	else
		record_exit(m, CONTAINER_EXITED);
}

static void fail_start(struct monitor *m, const struct monitor_plan *plan, const struct error *err)
{
	struct error ignored;

	if (!plan->adopt)	/* what runs already runs on */
		undo_start(m, plan, err);
	(void)monitor_send(m->setup.control, MONITOR_STARTED, (uint64_t[4]){ (uint64_t)err->code },
			   err->msg, strlen(err->msg), -EBADF, &ignored);
}

/* All that one life has of the monitor's memory; its descriptors are closed. */
static void forget_life(struct monitor *m)
{
	for (size_t i = 0; i < m->n_clients; i++) {
		fd_close(&m->clients[i].fd);
		free(m->clients[i].pending);
	}
	m->n_clients = 0;
	fd_close(&m->lease.tracer_fd);
	m->lease = (struct lease){ .client_fd = -EBADF, .tracer_fd = -EBADF };
	fd_close(&m->setup.guard.fd);
	fd_close(&m->setup.guard.hold_fd);
	cgroup_free(m->setup.cgroup);
	m->setup.cgroup = NULL;
	fd_close(&m->pidfd);
	m->pid = 0;
	m->done = false;
}

/* Whoever moves it, or removes it, holds the lock. */
static bool start_again(struct monitor *m, bool *ret_busy)
{
	struct container *c = m->setup.container;
	struct error err;
	bool first = false;
	int r;

	*ret_busy = container_lock(c, false, &err) < 0;
	if (*ret_busy)
		return false;
	fd_close(&m->listen_fd);
	m->state.restarts++;
	m->state.started_us = 0;
	(void)container_state_write(c, &m->state, &err);
	r = container_reload(c, &err);
	if (r == 0)
		r = bring_up(m, init_start, &first, &err);
	if (r < 0) {
		m->state.exit_code = -1;
		tear_down(m);
		release_network(m);
		(void)snprintf(m->state.reason, sizeof(m->state.reason), "%.*s",
			       (int)sizeof(m->state.reason) - 1, err.msg);
	}
	container_unlock(c);
	return r == 0;
}

static bool is_wanted(struct monitor *m)
{
	const struct container_state *st = &m->state;

	return !m->discarded && !st->stopped && !monitor_is_decided(m) &&
	       restart_wanted(&m->setup.container->spec->restart, st->exit_code, m->tries);
}

/* After the end of a life; its policy may want another one. */
static bool begin_again(struct monitor *m)
{
	bool told = false, busy = false, begun;
	struct error ignored;

	(void)container_reload(m->setup.container, &ignored);	/* update may have changed the policy */
	if (m->state.started_us && clock_real_us() - m->state.started_us > RESTART_STEADY_US)
		m->tries = 0;
	while (is_wanted(m)) {
		if (!told) {
			monitor_tell_exit(m);
			release_network(m);
			forget_life(m);
		}
		told = true;
		record_exit(m, CONTAINER_RESTARTING);
		if (m->listen_fd < 0 && monitor_listen(m, &ignored) < 0)
			return false;
		if (!monitor_wait_restart(m, clock_us() + restart_delay_us(busy ? 0 : m->tries)))
			return false;
		if (!is_wanted(m))
			return false;
		begun = start_again(m, &busy);
		m->tries += !busy;
		if (begun)
			return true;
		forget_life(m);
	}
	return false;
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
	do {
		monitor_loop(m);
		tear_down(m);
	} while (begin_again(m));
	fd_close(&m->listen_fd);
	(void)unlinkat(m->setup.container->dir_fd, "monitor.sock", 0);
	if (m->discarded || m->setup.container->spec->auto_remove)
		remove_folder(m);
	else
		record_exit(m, CONTAINER_EXITED);
	monitor_tell_exit(m);
	fault_pass("monitor-told");
	release_network(m);
	tell_names(m);
}

static _Noreturn void monitor_main(struct container *c, const struct monitor_plan *plan, int control)
{
	struct monitor m = {
		.setup = { .container = c, .netns_fd = -EBADF, .userns_fd = -EBADF, .stdio = { -EBADF, -EBADF, -EBADF },
			   .control = control, .guard = MONITOR_GUARD_NONE },
		.listen_fd = -EBADF, .signal_fd = -EBADF, .pipes = { -EBADF, -EBADF, -EBADF },
		.terminal_fd = -EBADF, .pidfd = -EBADF, .output = { .fd = -EBADF },
		.lease = { .client_fd = -EBADF, .tracer_fd = -EBADF },
	};
	struct error err = { 0 };

	fault_role("monitor");
	if (detach_self(&m, &err) < 0 || take_signals(&m, &err) < 0 ||
	    (plan->adopt ? monitor_take_over(&m, &err) : bring_up(&m, plan->start, plan->ctx, &err)) < 0)
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
