#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "engine/base/clock.h"
#include "engine/base/fault.h"
#include "engine/base/fd.h"
#include "engine/monitor/monitor_state.h"
#include "engine/terminal.h"

#define FREEZE_TIMEOUT_US 10000000
#define PENDING_MAX (1 << 20)
#define WRITE_AGAIN_MS 1000

int monitor_add_client(struct monitor *m, int fd_consumed)
{
	CLEANUP(fd_closep) int fd = fd_consumed;

	if (m->n_clients == MONITOR_CLIENTS_MAX)
		return -EMFILE;
	(void)fcntl(fd, F_SETFL, O_NONBLOCK);
	m->clients[m->n_clients] = (struct client){ .fd = TAKE_FD(fd) };
	return (int)m->n_clients++;
}

void monitor_reply(int fd, uint32_t op, int code, const uint64_t value[4], const char *text)
{
	struct monitor_message r = { .op = op, .code = code };
	struct error ignored;

	if (value)
		memcpy(r.value, value, sizeof(r.value));
	r.len = (uint32_t)snprintf(r.data, sizeof(r.data), "%s", text ? text : "");
	(void)fd_send_msg(fd, &r, offsetof(struct monitor_message, data) + r.len, NULL, 0, &ignored);
}

void monitor_answer(int fd, uint32_t op, int code, const char *text)
{
	monitor_reply(fd, op, code, NULL, text);
}

void monitor_reply_result(int fd, uint32_t op, int r, const struct error *err)
{
	monitor_reply(fd, op, r, NULL, r < 0 ? err->msg : NULL);
}

/* What an attached client's socket does not take waits, up to PENDING_MAX;
 * beyond that the pipes are not read until it has caught up. */
static bool flush_client(struct client *c)
{
	while (c->pending_len) {
		struct monitor_message head;
		size_t total;

		memcpy(&head, c->pending, offsetof(struct monitor_message, data));
		total = offsetof(struct monitor_message, data) + head.len;
		if (send(c->fd, c->pending, total, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			return errno == EAGAIN;
		c->pending_len -= total;
		memmove(c->pending, c->pending + total, c->pending_len);
	}
	return true;
}

static void queue_output(struct client *c, enum output_stream stream, const char *data, size_t len)
{
	struct monitor_message head = { .op = MONITOR_OUTPUT, .value = { stream }, .len = (uint32_t)len };
	size_t total = offsetof(struct monitor_message, data) + len;
	char *more = realloc(c->pending, c->pending_len + total);

	if (!more)
		return;
	c->pending = more;
	memcpy(more + c->pending_len, &head, offsetof(struct monitor_message, data));
	memcpy(more + c->pending_len + offsetof(struct monitor_message, data), data, len);
	c->pending_len += total;
	(void)flush_client(c);
}

static void take_output(struct monitor *m, enum output_stream stream, const char *data, size_t len)
{
	struct error ignored;

	(void)output_write(&m->output, stream, data, len, &ignored);
	for (size_t i = 0; i < m->n_clients; i++)
		if (m->clients[i].attached)
			queue_output(&m->clients[i], stream, data, len);
}

/* One read; closes fd at its end. */
static bool read_stream(struct monitor *m, int *fd, enum output_stream stream)
{
	char buf[MONITOR_DATA_MAX];
	ssize_t n = *fd < 0 ? 0 : read(*fd, buf, sizeof(buf));

	if (n > 0)
		take_output(m, stream, buf, (size_t)n);
	else if (*fd >= 0 && (n == 0 || (errno != EAGAIN && errno != EINTR)))
		fd_close(fd);
	return n > 0;
}

void monitor_drain(struct monitor *m)
{
	if (m->terminal_fd >= 0)
		(void)fcntl(m->terminal_fd, F_SETFL, O_NONBLOCK);
	for (int i = 1; i < 3; i++)
		while (read_stream(m, &m->pipes[i], i == 1 ? OUTPUT_STDOUT : OUTPUT_STDERR))
			;
	while (read_stream(m, &m->terminal_fd, OUTPUT_STDOUT))
		;
}

static void release_guard(struct monitor *m)
{
	fd_close(&m->setup.guard.fd);
	fd_close(&m->setup.guard.hold_fd);
	for (size_t i = 0; i < m->n_clients; i++)
		if (m->clients[i].settling) {
			m->clients[i].settling = false;
			monitor_reply(m->clients[i].fd, MONITOR_SETTLED, 0, NULL, NULL);
		}
}

/* The guard has spoken, or has died with the memory incomplete. */
static void hear_guard(struct monitor *m)
{
	struct error said = { .code = EIO, .msg = "the process that filled it in was killed" }, ignored;
	ssize_t n = read(m->setup.guard.fd, &said, sizeof(said));

	if (n != sizeof(said) || said.code) {
		(void)snprintf(m->state.reason, sizeof(m->state.reason), "memory is missing: %.200s",
			       said.msg);
		(void)cgroup_kill(m->setup.cgroup, FREEZE_TIMEOUT_US, &ignored);
	}
	release_guard(m);
}

static void op_settled(struct monitor *m, struct client *c, const struct monitor_message *q)
{
	struct error err;

	c->mover = true;
	if (monitor_health_pause(m, &err) < 0)
		monitor_reply_result(c->fd, q->op, -EBUSY, &err);
	else if (m->setup.guard.fd < 0)
		monitor_reply(c->fd, q->op, 0, NULL, NULL);
	else
		c->settling = true;
}

static void op_discard(struct monitor *m, struct client *c)
{
	fault_pass("monitor-discard");
	c->waiting = true;		/* the reply comes when all is gone */
	m->discarded = true;
}

static void op_stop(struct monitor *m, const struct client *c)
{
	m->state.stopped = true;
	monitor_write_state(m);
	monitor_reply(c->fd, MONITOR_STOP, 0, NULL, NULL);
}

static void op_resize(const struct monitor *m, const struct client *c, const struct monitor_message *q)
{
	int r = m->terminal_fd < 0 ? -ENOTTY :
		terminal_set_size(m->terminal_fd, (unsigned short)q->value[0], (unsigned short)q->value[1]);

	monitor_reply(c->fd, q->op, r, NULL, NULL);
}

static void serve_request(struct monitor *m, struct client *c, const struct monitor_message *q, int *fd)
{
	if (m->state.status == CONTAINER_RESTARTING && q->op != MONITOR_STOP) {
		if (q->op != MONITOR_STDIN)
			monitor_reply(c->fd, q->op, -ESRCH, NULL, "it has ended and will be started again");
		return;
	}
	switch (q->op) {
	case MONITOR_ATTACH:
		c->attached = true;
		monitor_reply(c->fd, q->op, 0, NULL, NULL);
		break;
	case MONITOR_WAIT:
		c->waiting = true;
		break;
	case MONITOR_FREEZE:
	case MONITOR_FREEZE_HELD:
		monitor_freeze(m, c, q);
		break;
	case MONITOR_TRACER:
		monitor_tracer(m, c, q, fd);
		break;
	case MONITOR_THAW:
		monitor_thaw(m, c, q);
		break;
	case MONITOR_DISCARD:
		op_discard(m, c);
		break;
	case MONITOR_STDIN:
		c->feeds = true;
		monitor_input_put(m, q->data, q->len);
		break;
	case MONITOR_SETTLED:
		op_settled(m, c, q);
		break;
	case MONITOR_RESIZE:
		op_resize(m, c, q);
		break;
	case MONITOR_STOP:
		op_stop(m, c);
		break;
	case MONITOR_CANCEL:
		monitor_cancel(m, c);
		break;
	default:
		monitor_reply(c->fd, q->op, -EOPNOTSUPP, NULL, "the monitor does not know this request");
	}
}

static void drop_client(struct monitor *m, size_t i)
{
	struct client *c = &m->clients[i];
	struct error ignored;

	if (m->lease.active && m->lease.client_fd == c->fd) {
		m->lease.client_fd = -EBADF;
		if (m->lease.tracer_fd < 0)
			monitor_lease_expire(m);
	}
	/* The sockets of one that is decided to run elsewhere must not answer here. */
	if (c->mover && !m->lease.active) {
		(void)container_unthrottle(m->setup.container, &ignored);
		(void)monitor_gate(m, monitor_is_decided(m) ? NETWORK_GATE_CLOSED : NETWORK_GATE_OPEN, &ignored);
	}
	fd_close(&c->fd);
	free(c->pending);
	*c = m->clients[--m->n_clients];
}

/* False when the client is gone. */
static bool read_request(struct monitor *m, struct client *c)
{
	struct monitor_message q;
	struct error ignored;
	int fd = -EBADF;
	ssize_t n = fd_recv_msg(c->fd, &q, sizeof(q), &fd, 1, &ignored);

	if (n == -EAGAIN)
		return true;
	if (n >= (ssize_t)offsetof(struct monitor_message, data) &&
	    q.len == (size_t)n - offsetof(struct monitor_message, data))
		serve_request(m, c, &q, &fd);
	else
		n = 0;
	fd_close(&fd);
	return n > 0;
}

static void reap(struct monitor *m)
{
	struct signalfd_siginfo si;
	int status;
	pid_t pid;

	while (read(m->signal_fd, &si, sizeof(si)) == sizeof(si))
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (monitor_health_reaped(m, pid, status) || pid != m->pid)
			continue;
		m->done = true;
		m->wait_status = status;
		m->state.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	}
}

static void accept_client(struct monitor *m)
{
	int fd = accept4(m->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0)
		(void)monitor_add_client(m, fd);
}

static bool congested(const struct monitor *m)
{
	for (size_t i = 0; i < m->n_clients; i++)
		if (m->clients[i].pending_len > PENDING_MAX)
			return true;
	return false;
}

enum { P_SIGNAL, P_LISTEN, P_OUT, P_ERR, P_TERMINAL, P_INPUT, P_TRACER, P_GUARD, P_INIT, P_CLIENTS };

/* One whose input can't be taken yet is not heard, not even when it hangs up:
 * it may have sent more before. */
static struct pollfd poll_client(const struct monitor *m, const struct client *c)
{
	bool deaf = c->feeds && m->input_len;
	short events = (short)((deaf ? 0 : POLLIN) | (c->pending_len ? POLLOUT : 0));

	return (struct pollfd){ .fd = events ? c->fd : -1, .events = events };
}

static size_t fill_poll(struct monitor *m, struct pollfd *p)
{
	bool read_output = !congested(m);
	const int fds[P_CLIENTS] = {
		[P_SIGNAL] = m->signal_fd, [P_LISTEN] = m->listen_fd,
		[P_OUT] = read_output ? m->pipes[1] : -1, [P_ERR] = read_output ? m->pipes[2] : -1,
		[P_TERMINAL] = read_output ? m->terminal_fd : -1,
		[P_INPUT] = monitor_input_waits_for(m),
		[P_GUARD] = m->setup.guard.fd,
		[P_INIT] = m->pidfd,
		[P_TRACER] = m->lease.client_fd < 0 ? m->lease.tracer_fd : -1,
	};

	for (size_t i = 0; i < P_CLIENTS; i++)
		p[i] = (struct pollfd){ .fd = fds[i], .events = i == P_INPUT ? POLLOUT : POLLIN };
	for (size_t i = 0; i < m->n_clients; i++)
		p[P_CLIENTS + i] = poll_client(m, &m->clients[i]);
	return P_CLIENTS + m->n_clients;
}

static void serve_clients(struct monitor *m, const struct pollfd *p, size_t n)
{
	/* Backwards, so that dropping one moves only those that were served. */
	for (size_t i = n; i-- > 0;) {
		struct client *c = &m->clients[i];
		bool alive = true;

		if (p[i].revents & POLLOUT)
			alive = flush_client(c);
		if (alive && (p[i].events & POLLIN) && (p[i].revents & (POLLIN | POLLHUP | POLLERR)))
			alive = read_request(m, c);
		if (!alive)
			drop_client(m, i);
	}
}

static int poll_timeout_ms(const struct monitor *m)
{
	uint64_t now = clock_us(), due = monitor_health_due_us(m), wait_ms = m->unwritten ? WRITE_AGAIN_MS : INT32_MAX;

	if (due != UINT64_MAX && (due <= now || (due - now) / 1000 < wait_ms))
		wait_ms = due <= now ? 0 : (due - now) / 1000 + 1;
	return wait_ms == INT32_MAX ? -1 : (int)wait_ms;
}

void monitor_loop(struct monitor *m)
{
	struct pollfd p[P_CLIENTS + MONITOR_CLIENTS_MAX];

	while (!m->done && !m->discarded) {
		size_t n_clients = m->n_clients;

		if (poll(p, fill_poll(m, p), poll_timeout_ms(m)) < 0 && errno != EINTR)
			return;
		if (m->unwritten)
			monitor_write_state(m);
		if (p[P_OUT].revents)
			(void)read_stream(m, &m->pipes[1], OUTPUT_STDOUT);
		if (p[P_ERR].revents)
			(void)read_stream(m, &m->pipes[2], OUTPUT_STDERR);
		if (p[P_TERMINAL].revents)
			(void)read_stream(m, &m->terminal_fd, OUTPUT_STDOUT);
		if (p[P_INPUT].revents)
			monitor_input_flush(m);
		if (p[P_GUARD].revents)
			hear_guard(m);
		if (p[P_TRACER].revents)
			monitor_lease_expire(m);
		serve_clients(m, p + P_CLIENTS, n_clients);
		if (p[P_LISTEN].revents)
			accept_client(m);
		if (p[P_SIGNAL].revents)
			reap(m);
		if (p[P_INIT].revents)
			monitor_lose_init(m);
		monitor_cancel_settle(m);
		monitor_health_turn(m);
	}
}

bool monitor_wait_restart(struct monitor *m, uint64_t until_us)
{
	struct pollfd p[1 + MONITOR_CLIENTS_MAX];

	while (!m->state.stopped) {
		size_t n = m->n_clients;
		uint64_t now = clock_us();

		if (now >= until_us)
			return true;
		p[0] = (struct pollfd){ .fd = m->listen_fd, .events = POLLIN };
		for (size_t i = 0; i < n; i++)
			p[1 + i] = poll_client(m, &m->clients[i]);
		if (poll(p, 1 + n, (int)((until_us - now) / 1000 + 1)) < 0 && errno != EINTR)
			return false;
		serve_clients(m, p + 1, n);
		if (p[0].revents)
			accept_client(m);
	}
	return false;
}

/* Output that is still pending goes out first, as far as the reader takes it.
 * One that takes nothing must not keep the others waiting. */
void monitor_tell_exit(struct monitor *m)
{
	const struct timeval patience = { .tv_sec = 5 };

	for (size_t i = 0; i < m->n_clients; i++) {
		struct client *c = &m->clients[i];

		(void)fcntl(c->fd, F_SETFL, 0);
		(void)setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
		while (c->pending_len && flush_client(c)) {
			struct pollfd p = { .fd = c->fd, .events = POLLOUT };

			if (c->pending_len && poll(&p, 1, 5000) <= 0)
				break;
		}
		if (m->discarded && (c->waiting || c->attached || c->cancelling))
			monitor_reply_result(c->fd, MONITOR_DISCARD, m->end_code, &m->end_error);
		else if (c->waiting || c->attached || c->cancelling)
			monitor_reply(c->fd, MONITOR_WAIT, m->state.exit_code, NULL, m->state.reason);
		fd_stop_hearing(c->fd);
	}
}
