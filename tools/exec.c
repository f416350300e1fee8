#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "engine/base/fd.h"
#include "engine/exec.h"
#include "engine/terminal.h"
#include "tools/commands.h"
#include "tools/console.h"
#include "tools/end.h"
#include "tools/launch.h"
#include "tools/run.h"

struct exec_options {
	bool interactive, terminal;
	const char *cwd, *user;
	struct option_list env;
};

#define ROW(letter, name, kind, value, member, help) \
	OPTION(letter, name, kind, value, struct exec_options, member, help)

static const struct option_row rows[] = {
	ROW('i', "interactive", FLAG, NULL, interactive, "give it our standard input"),
	ROW('t', "tty", FLAG, NULL, terminal, "give it a terminal"),
	ROW('e', "env", LIST, "K[=V]", env, "set a variable, or pass ours on; repeatable"),
	ROW('w', "workdir", TEXT, "DIR", cwd, "working directory [the container's]"),
	ROW('u', "user", TEXT, "USER[:GROUP]", user, "user and group [the container's]"),
	OPTION_END,
};

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

/* Stands for the program until it has ended; returns its exit code. */
static int attend(struct exec *e, const struct exec_options *o, int *ret_code, struct error *err)
{
	bool ours = o->terminal && isatty(STDIN_FILENO);
	CLEANUP(fd_closep) int pidfd = pidfd_open(e->pid, 0), terminal = e->terminal;
	struct relay r = { .pidfd = pidfd, .terminal = terminal, .resizes = ours,
			   .console = { .signal_fd = -EBADF } };
	int status = 0, result = take_streams(&r, e, o->interactive, err);

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

static int make_env(const struct container *c, const struct container_state *st,
		    const struct exec_options *o, char ***env, struct error *err)
{
	char home[256];

	if (o->user) {
		CLEANUP(freep) char *text = NULL;

		if (exec_find_home(c, st, o->user, home, err) < 0)
			return -err->code;
		if (asprintf(&text, "HOME=%s", home) < 0)
			return error_set(err, ENOMEM, "out of memory");
		if (run_add_env(env, text, err) < 0)
			return -err->code;
	}
	for (char **e = c->spec->env; *e; e++)
		if ((!o->user || strncmp(*e, "HOME=", 5) != 0) && run_add_env(env, *e, err) < 0)
			return -err->code;
	if (o->terminal && run_default_env(env, "TERM", "xterm", err) < 0)
		return -err->code;
	for (size_t i = 0; i < o->env.n; i++)
		if (run_add_env(env, o->env.items[i], err) < 0)
			return -err->code;
	return 0;
}

static int exec_in(const struct invocation *inv, char ***env, int *ret_code, struct error *err)
{
	const struct exec_options *o = inv->options;
	CLEANUP(container_freep) struct container *c = NULL;
	struct container_state st;
	struct exec_plan plan;
	struct exec e;

	if (container_open(inv->node, inv->argv[0], &c, err) < 0 || end_check(c, &st, err) < 0)
		return -err->code;
	if (st.status == CONTAINER_PAUSED)
		return error_set(err, EBUSY, "container '%s' is paused; 'godwit unpause %s' first", c->name, c->name);
	if (make_env(c, &st, o, env, err) < 0)
		return -err->code;
	plan = (struct exec_plan){ .args = inv->argv + 1, .env = *env, .cwd = o->cwd ? o->cwd : c->spec->cwd,
				   .user = o->user, .terminal = o->terminal, .input = o->interactive };
	if (exec_start(c, &st, &plan, &e, err) < 0)
		return -err->code;
	return attend(&e, o, ret_code, err);
}

static int exec_run(const struct invocation *inv)
{
	const struct exec_options *o = inv->options;
	char **env = NULL;
	struct error err;
	int code = EXIT_OK, r;

	if (o->cwd && o->cwd[0] != '/')
		return command_usage_error(inv->command, "exec: working directory '%s' is not absolute", o->cwd);
	r = exec_in(inv, &env, &code, &err);
	for (char **e = env; e && *e; e++)
		free(*e);
	free(env);
	return r < 0 ? command_fail(&err, launch_exit_code(&err)) : code;
}

const struct command command_exec = {
	.name = "exec",
	.usage = "NAME COMMAND [ARGUMENT]...",
	.summary = "start one more program in a running container",
	.notes = "Ends with the exit code of the program; 125 when godwit itself failed, 126 when\n"
		 "the program can't be executed, 127 when there is none. Signals are passed on.\n",
	.options = rows, .options_size = sizeof(struct exec_options),
	.min_args = 2, .max_args = ARGS_MANY, .command_follows = true, .enters_container = true, .run = exec_run,
};
