#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "engine/base/fd.h"
#include "engine/terminal.h"
#include "tools/console.h"
#include "tools/relay.h"

/* Bytes on their way from one descriptor to another; both are owned. */
struct stream {
	int from, to;
	size_t len;			/* in data, not yet written */
	char data[16384];
};

enum { STREAM_IN, STREAM_OUT, STREAM_ERR, STREAMS };

struct relay {
	struct stream streams[STREAMS];
	struct console console;
	int pidfd;
	int terminal;			/* borrowed from a stream; -EBADF: none */
	bool resizes;			/* our terminal's size is its */
	bool ended;
};

static void stream_close(struct stream *s)
{
	fd_close(&s->from);
	fd_close(&s->to);
	s->len = 0;
}

/* Our own ends may be shared with others, so they stay as they are: poll says
 * when to read and to write, and PIPE_BUF bytes never block then. */
static bool stream_move(struct stream *s, short from_events, short to_events)
{
	ssize_t n;

	if (s->len && to_events) {
		n = write(s->to, s->data, s->len < PIPE_BUF ? s->len : PIPE_BUF);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return false;
		if (n > 0)
			memmove(s->data, s->data + n, s->len -= (size_t)n);
	} else if (!s->len && from_events) {
		n = read(s->from, s->data, sizeof(s->data));
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return false;
		s->len = n > 0 ? (size_t)n : 0;
	}
	return true;
}

static void copy_size(const struct relay *r)
{
	unsigned short rows_now, columns;

	if (r->resizes && terminal_get_size(STDIN_FILENO, &rows_now, &columns) == 0)
		(void)terminal_set_size(r->terminal, rows_now, columns);
}

static void pass_signals(const struct relay *r)
{
	int sig;

	while ((sig = console_signal(&r->console))) {
		if (sig == SIGWINCH)
			copy_size(r);
		else
			(void)pidfd_send_signal(r->pidfd, sig, NULL, 0);
	}
}

static bool holds_data(const struct relay *r)
{
	return r->streams[STREAM_OUT].len || r->streams[STREAM_ERR].len;
}

static void turn(struct relay *r)
{
	enum { SIGNALS, END, FIRST_STREAM };
	struct pollfd p[FIRST_STREAM + 2 * STREAMS] = {
		[SIGNALS] = { .fd = r->console.signal_fd, .events = POLLIN },
		[END] = { .fd = r->ended ? -1 : r->pidfd, .events = POLLIN },
	};

	for (int i = 0; i < STREAMS; i++) {
		const struct stream *s = &r->streams[i];

		p[FIRST_STREAM + 2 * i] = (struct pollfd){ .fd = s->len ? -1 : s->from, .events = POLLIN };
		p[FIRST_STREAM + 2 * i + 1] = (struct pollfd){ .fd = s->len ? s->to : -1, .events = POLLOUT };
	}
	/* After its end what is still in the pipes is taken, but no more is waited
	 * for: others may hold them open. */
	if (poll(p, sizeof(p) / sizeof(*p), r->ended && !holds_data(r) ? 0 : -1) == 0) {
		for (int i = STREAM_OUT; i < STREAMS; i++)
			stream_close(&r->streams[i]);
		return;
	}
	if (p[SIGNALS].revents)
		pass_signals(r);
	if (p[END].revents) {
		r->ended = true;
		stream_close(&r->streams[STREAM_IN]);
	}
	for (int i = r->ended ? STREAM_OUT : STREAM_IN; i < STREAMS; i++)
		if (!stream_move(&r->streams[i], p[FIRST_STREAM + 2 * i].revents,
				 p[FIRST_STREAM + 2 * i + 1].revents))
			stream_close(&r->streams[i]);
}

static int take_streams(struct relay *r, const struct exec *e, bool input, struct error *err)
{
	const int from[STREAMS] = { input ? STDIN_FILENO : -1, e->terminal >= 0 ? e->terminal : e->fds[1],
				    e->fds[2] };
	const int to[STREAMS] = { e->terminal >= 0 ? e->terminal : e->fds[0], STDOUT_FILENO, STDERR_FILENO };

	for (int i = 0; i < STREAMS; i++) {
		struct stream *s = &r->streams[i];

		s->from = s->to = -EBADF;
		if (from[i] < 0 || to[i] < 0)
			continue;
		s->from = fcntl(from[i], F_DUPFD_CLOEXEC, 3);
		s->to = fcntl(to[i], F_DUPFD_CLOEXEC, 3);
		if (s->from < 0 || s->to < 0)
			return error_set(err, errno, "dup: %s", strerror(errno));
	}
	return 0;
}

static void close_exec(struct exec *e)
{
	for (int i = 0; i < 3; i++)
		fd_close(&e->fds[i]);
}

int relay_attend(struct exec *e, bool wants_terminal, bool input, int *ret_code, struct error *err)
{
	bool ours = wants_terminal && isatty(STDIN_FILENO);
	CLEANUP(fd_closep) int pidfd = pidfd_open(e->pid, 0), terminal = e->terminal;
	struct relay r = { .pidfd = pidfd, .terminal = terminal, .resizes = ours,
			   .console = { .signal_fd = -EBADF } };
	int status = 0, result = take_streams(&r, e, input, err);

	close_exec(e);
	if (result == 0)
		result = console_open(ours, &r.console, err);
	if (result == 0) {
		copy_size(&r);
		while (!r.ended || r.streams[STREAM_OUT].from >= 0 || r.streams[STREAM_ERR].from >= 0)
			turn(&r);
		console_close(&r.console);
	}
	for (int i = 0; i < STREAMS; i++)
		stream_close(&r.streams[i]);
	if (result < 0 || waitpid(e->pid, &status, 0) < 0)
		return result < 0 ? result : error_set(err, errno, "wait: %s", strerror(errno));
	*ret_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	return 0;
}
