#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/inotify.h>

#include "engine/base/cleanup.h"
#include "engine/monitor/monitor.h"
#include "engine/monitor/output.h"
#include "tools/commands.h"

#define TAIL_ALL UINT32_MAX
#define BLOCK 65536

struct logs_options {
	bool follow, times;
	uint32_t tail;
};

static const struct option_row rows[] = {
	OPTION('f', "follow", FLAG, NULL, struct logs_options, follow, "wait for more until the container ends"),
	OPTION('t', "timestamps", FLAG, NULL, struct logs_options, times, "the time in front of each line"),
	OPTION('n', "tail", COUNT, "N", struct logs_options, tail, "only the last N lines [all]"),
	OPTION_END,
};

/* The log file as it is read: what has come of a line that is not whole yet. */
struct reader {
	int fd;
	bool times;
	bool line_begun[OUTPUT_STREAMS];	/* the last piece had no end of line */
	size_t len;
	char data[2 * BLOCK];
};

static void print_line(struct reader *r, char *line)
{
	const char *time, *text;
	enum output_stream stream;
	bool full;
	FILE *to;

	if (!output_parse(line, &time, &stream, &full, &text))
		return;
	to = stream == OUTPUT_STDOUT ? stdout : stderr;
	if (to == stderr)
		(void)fflush(stdout);
	if (r->times && !r->line_begun[stream])
		fprintf(to, "%s ", time);
	fprintf(to, "%s%s", text, full ? "\n" : "");
	r->line_begun[stream] = !full;
}

/* Prints the whole lines that there are; what is behind the last one stays. A
 * line that does not fit is not of our format. */
static void print_lines(struct reader *r)
{
	char *begin = r->data, *nl;

	while ((nl = memchr(begin, '\n', r->len - (size_t)(begin - r->data)))) {
		*nl = '\0';
		print_line(r, begin);
		begin = nl + 1;
	}
	r->len -= (size_t)(begin - r->data);
	memmove(r->data, begin, r->len);
	if (r->len == sizeof(r->data))
		r->len = 0;
}

static int read_rest(struct reader *r, struct error *err)
{
	ssize_t n;

	while ((n = read(r->fd, r->data + r->len, sizeof(r->data) - r->len)) > 0) {
		r->len += (size_t)n;
		print_lines(r);
	}
	if (n < 0)
		return error_set(err, errno, "read the log: %s", strerror(errno));
	return fflush(stdout) ? error_set(err, errno, "print: %s", strerror(errno)) : 0;
}

/* Whether the line that begins at text is one of output's own ends: a piece
 * (P) belongs to the line after it. */
static bool is_full(const char *line, size_t len)
{
	const char *tag = memchr(line, ' ', len);

	tag = tag ? memchr(tag + 1, ' ', len - (size_t)(tag + 1 - line)) : NULL;
	return !tag || (size_t)(tag + 1 - line) >= len || tag[1] != 'P';
}

/* Where the last n lines begin, found from the end in blocks that overlap by
 * more than the longest line. */
static int seek_tail(int fd, uint32_t n, struct error *err)
{
	off_t end = lseek(fd, 0, SEEK_END), at = end;
	CLEANUP(freep) char *block = malloc(BLOCK);
	uint32_t found = 0;

	if (!block)
		return error_set(err, ENOMEM, "out of memory");
	while (at > 0) {
		off_t begin = at > BLOCK ? at - BLOCK : 0;
		ssize_t got = pread(fd, block, (size_t)(at - begin), begin);
		char *line_end = got > 0 ? memrchr(block, '\n', (size_t)got) : NULL, *nl;

		if (!line_end || (begin > 0 && !memrchr(block, '\n', (size_t)(line_end - block))))
			break;
		while ((nl = memrchr(block, '\n', (size_t)(line_end - block))) || begin == 0) {
			char *line = nl ? nl + 1 : block;

			/* The line that ends at line_end begins a new one if the one before it is whole. */
			if (is_full(line, (size_t)(line_end - line)) && found++ == n)
				return lseek(fd, begin + (line_end - block) + 1, SEEK_SET) < 0 ?
					error_set(err, errno, "seek in the log: %s", strerror(errno)) : 0;
			if (!nl)
				return lseek(fd, 0, SEEK_SET) < 0 ? -errno : 0;
			line_end = nl;
		}
		at = begin + (line_end - block) + 1;
	}
	return lseek(fd, at, SEEK_SET) < 0 ? error_set(err, errno, "seek in the log: %s", strerror(errno)) : 0;
}

/* Waits for more of the file, or for the end of the container. */
static int wait_more(int watch, int *monitor, struct error *err)
{
	struct pollfd p[2] = { { .fd = watch, .events = POLLIN }, { .fd = *monitor, .events = POLLIN } };
	char events[4096];

	if (poll(p, 2, -1) < 0)
		return errno == EINTR ? 0 : error_set(err, errno, "poll: %s", strerror(errno));
	if (p[0].revents)
		(void)!read(watch, events, sizeof(events));
	if (p[1].revents)
		fd_close(monitor);
	return 0;
}

/* Reads after the monitor said the end, so that nothing is missed. */
static int follow(const struct container *c, struct reader *r, struct error *err)
{
	CLEANUP(fd_closep) int monitor = -EBADF;
	CLEANUP(fd_closep) int watch = inotify_init1(IN_CLOEXEC);
	struct error ignored;
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", r->fd);
	if (watch < 0 || inotify_add_watch(watch, path, IN_MODIFY) < 0)
		return error_set(err, errno, "watch the log: %s", strerror(errno));
	if (monitor_connect(c, &monitor, &ignored) == 0 &&
	    monitor_send(monitor, MONITOR_WAIT, NULL, NULL, 0, -EBADF, &ignored) < 0)
		fd_close(&monitor);
	for (;;) {
		bool last = monitor < 0;

		if (read_rest(r, err) < 0)
			return -err->code;
		if (last)
			return 0;
		if (wait_more(watch, &monitor, err) < 0)
			return -err->code;
	}
}

static int show(const struct invocation *inv, struct reader *r, struct error *err)
{
	const struct logs_options *o = inv->options;
	CLEANUP(container_freep) struct container *c = NULL;
	CLEANUP(fd_closep) int fd = -EBADF;

	if (container_open(inv->node, inv->argv[0], &c, err) < 0)
		return -err->code;
	fd = openat(c->dir_fd, OUTPUT_LOG, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : error_set(err, errno, "container '%s': log: %s", c->name, strerror(errno));
	if (o->tail != TAIL_ALL && seek_tail(fd, o->tail, err) < 0)
		return error_wrap(err, "container '%s'", c->name);
	r->fd = fd;
	r->times = o->times;
	if ((o->follow ? follow(c, r, err) : read_rest(r, err)) < 0)
		return error_wrap(err, "container '%s'", c->name);
	return 0;
}

static int logs_run(const struct invocation *inv)
{
	CLEANUP(freep) struct reader *r = calloc(1, sizeof(*r));
	struct error err;

	if (!r)
		return command_fail(&(struct error){ .msg = "out of memory" }, EXIT_FAILED);
	return show(inv, r, &err) < 0 ? command_fail(&err, EXIT_FAILED) : EXIT_OK;
}

const struct command command_logs = {
	.name = "logs", .usage = "NAME", .summary = "print what a container has written",
	.notes = "Its standard output to ours, its standard error to ours. The time is UTC, when the\n"
		 "line was written.\n",
	.options = rows, .options_size = sizeof(struct logs_options),
	.defaults = &(const struct logs_options){ .tail = TAIL_ALL },
	.min_args = 1, .max_args = 1, .run = logs_run,
};
