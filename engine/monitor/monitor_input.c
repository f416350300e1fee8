/* What clients send to the container's standard input: it takes it when it
 * likes, so what the pipe or the terminal has no room for waits here, and as
 * long as something waits, clients that send input are not read. */
#include <stdlib.h>
#include <string.h>

#include "engine/monitor/monitor_state.h"

static int *input_fd(struct monitor *m)
{
	return m->terminal_fd >= 0 ? &m->terminal_fd : &m->pipes[0];
}

static void forget(struct monitor *m)
{
	free(m->input);
	m->input = NULL;
	m->input_len = 0;
}

void monitor_input_flush(struct monitor *m)
{
	int fd = *input_fd(m);
	ssize_t n = m->input_len && fd >= 0 ? write(fd, m->input, m->input_len) : 0;

	if (fd < 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		forget(m);
	} else if (n > 0) {
		m->input_len -= (size_t)n;
		memmove(m->input, m->input + n, m->input_len);
	}
	if (!m->input_len)
		forget(m);
}

void monitor_input_put(struct monitor *m, const char *data, size_t len)
{
	char *more;

	if (len == 0) {
		fd_close(&m->pipes[0]);
		return;
	}
	more = realloc(m->input, m->input_len + len);
	if (!more)
		return;
	memcpy(more + m->input_len, data, len);
	m->input = more;
	m->input_len += len;
	monitor_input_flush(m);
}

int monitor_input_waits_for(struct monitor *m)
{
	return m->input_len ? *input_fd(m) : -EBADF;
}
