#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>

#include "engine/base/fd.h"
#include "engine/monitor/monitor.h"
#include "engine/terminal.h"
#include "tools/console.h"
#include "tools/session.h"

#define DETACH_FIRST ('p' & 0x1f)
#define DETACH_SECOND ('q' & 0x1f)

struct live_session {
	const struct session *s;
	struct console console;
	int pidfd;
	bool input_open;
	bool input_waits;		/* input was read that the monitor did not take yet */
	bool detach_begun, detached, ended;
	int exit_code;
	char reason[256];		/* why it has ended, when there is more to say */
	size_t input_len;
	char input[4096];
};

static int send_size(const struct live_session *l, struct error *err)
{
	unsigned short rows, columns;

	if (!l->s->terminal || terminal_get_size(STDIN_FILENO, &rows, &columns) < 0)
		return 0;
	return monitor_send(l->s->control, MONITOR_RESIZE, (uint64_t[4]){ rows, columns }, NULL, 0,
			    -EBADF, err);
}

/* Whether the keys to detach are in what was typed. */
static bool look_for_detach(struct live_session *l)
{
	for (size_t i = 0; l->s->terminal && i < l->input_len; i++) {
		if (l->detach_begun && l->input[i] == DETACH_SECOND)
			return true;
		l->detach_begun = l->input[i] == DETACH_FIRST;
	}
	return false;
}

static int send_input(struct live_session *l, struct error *err)
{
	int r = monitor_send(l->s->control, MONITOR_STDIN, NULL, l->input, l->input_len, -EBADF, err);

	l->input_waits = r == -EAGAIN;
	return l->input_waits || r == -EPIPE ? 0 : r;
}

static int take_input(struct live_session *l, struct error *err)
{
	ssize_t n = read(STDIN_FILENO, l->input, sizeof(l->input));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	l->input_len = n < 0 ? 0 : (size_t)n;
	l->input_open = n > 0;
	l->detached = look_for_detach(l);
	return l->detached ? 0 : send_input(l, err);
}

static int take_message(struct live_session *l, struct error *err)
{
	struct monitor_message m;

	if (monitor_receive(l->s->control, &m, err) < 0)
		return -err->code;
	if (m.op == MONITOR_OUTPUT)
		return fd_write_full(m.value[0] == 0 ? STDOUT_FILENO : STDERR_FILENO, m.data, m.len, err);
	if (m.op == MONITOR_DISCARD)
		return error_set(err, ECONNRESET, "the container has moved to another machine");
	if (m.op == MONITOR_WAIT) {
		l->ended = true;
		l->exit_code = m.code;
		(void)snprintf(l->reason, sizeof(l->reason), "%.*s", (int)m.len, m.data);
	}
	return 0;
}

static int pass_signals(const struct live_session *l, struct error *err)
{
	int sig;

	while ((sig = console_signal(&l->console))) {
		if (sig == SIGWINCH && send_size(l, err) < 0)
			return -err->code;
		if (sig != SIGWINCH)
			(void)pidfd_send_signal(l->pidfd, sig, NULL, 0);
	}
	return 0;
}

static int turn(struct live_session *l, struct error *err)
{
	enum { CONTROL, SIGNALS, INPUT, FDS };
	struct pollfd p[FDS] = {
		[CONTROL] = { .fd = l->s->control,
			      .events = (short)(POLLIN | (l->input_waits ? POLLOUT : 0)) },
		[SIGNALS] = { .fd = l->console.signal_fd, .events = POLLIN },
		[INPUT] = { .fd = l->input_open && !l->input_waits ? STDIN_FILENO : -1, .events = POLLIN },
	};
	int r = 0;

	if (poll(p, FDS, -1) < 0)
		return errno == EINTR ? 0 : error_set(err, errno, "poll: %s", strerror(errno));
	if (p[SIGNALS].revents)
		r = pass_signals(l, err);
	if (r == 0 && (p[CONTROL].revents & POLLOUT))
		r = send_input(l, err);
	if (r == 0 && (p[CONTROL].revents & (POLLIN | POLLHUP | POLLERR)))
		r = take_message(l, err);
	if (r == 0 && p[INPUT].revents && !l->ended)
		r = take_input(l, err);
	return r;
}

int session_run(const struct session *s, int *ret_exit_code, struct error *err)
{
	struct live_session l = { .s = s, .input_open = s->input, .pidfd = -EBADF };
	CLEANUP(fd_closep) int pidfd = pidfd_open(s->pid, 0);
	int r;

	l.pidfd = pidfd;
	/* A message that the monitor has no room for must not stop us from reading its output. */
	if (fcntl(s->control, F_SETFL, O_NONBLOCK) < 0)
		return error_set(err, errno, "monitor socket: %s", strerror(errno));
	if (console_open(s->terminal, &l.console, err) < 0)
		return -err->code;
	r = send_size(&l, err);
	while (r == 0 && !l.ended && !l.detached)
		r = turn(&l, err);
	console_close(&l.console);
	if (r < 0)
		return r;
	if (l.reason[0])
		fprintf(stderr, "godwit: %s\n", l.reason);
	*ret_exit_code = l.exit_code;
	return l.detached;
}
