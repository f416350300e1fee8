#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

#include "engine/base/cleanup.h"
#include "engine/monitor/output.h"

static const char *const stream_names[OUTPUT_STREAMS] = { "stdout", "stderr" };

int output_open(int dirfd, struct output *ret, struct error *err)
{
	struct output o = { .fd = openat(dirfd, OUTPUT_LOG, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) };

	if (o.fd < 0)
		return error_set(err, errno, "open log: %s", strerror(errno));
	*ret = o;
	return 0;
}

void output_close(struct output *o)
{
	fd_close(&o->fd);
	for (int i = 0; i < OUTPUT_STREAMS; i++) {
		free(o->partial[i]);
		o->partial[i] = NULL;
	}
}

static int put_line(struct output *o, enum output_stream stream, bool full, const char *text,
		    size_t len, struct error *err)
{
	struct timespec now;
	struct tm tm;
	char head[64];
	struct iovec iov[3] = { { .iov_base = head },
				{ .iov_base = (void *)(uintptr_t)text, .iov_len = len },
				{ .iov_base = (void *)(uintptr_t)"\n", .iov_len = 1 } };

	(void)clock_gettime(CLOCK_REALTIME, &now);
	(void)gmtime_r(&now.tv_sec, &tm);
	iov[0].iov_len = strftime(head, sizeof(head), "%Y-%m-%dT%H:%M:%S", &tm);
	iov[0].iov_len += (size_t)snprintf(head + iov[0].iov_len, sizeof(head) - iov[0].iov_len,
					   ".%09ldZ %s %c ", now.tv_nsec, stream_names[stream],
					   full ? 'F' : 'P');
	if (writev(o->fd, iov, 3) < 0)
		return error_set(err, errno, "write log: %s", strerror(errno));
	return 0;
}

static int add_partial(struct output *o, enum output_stream s, const char *data, size_t len,
		       struct error *err)
{
	if (!o->partial[s] && !(o->partial[s] = malloc(OUTPUT_LINE_MAX)))
		return error_set(err, ENOMEM, "write log: out of memory");
	while (len) {
		size_t n = OUTPUT_LINE_MAX - o->partial_len[s];

		if (n > len)
			n = len;
		memcpy(o->partial[s] + o->partial_len[s], data, n);
		o->partial_len[s] += n;
		data += n;
		len -= n;
		if (o->partial_len[s] == OUTPUT_LINE_MAX) {
			o->partial_len[s] = 0;
			if (put_line(o, s, false, o->partial[s], OUTPUT_LINE_MAX, err) < 0)
				return -err->code;
		}
	}
	return 0;
}

int output_write(struct output *o, enum output_stream s, const char *data, size_t len,
		 struct error *err)
{
	const char *end = data + len, *nl;

	for (; (nl = memchr(data, '\n', (size_t)(end - data))); data = nl + 1) {
		size_t n = (size_t)(nl - data);
		int r;

		if (o->partial_len[s] || n > OUTPUT_LINE_MAX) {
			r = add_partial(o, s, data, n, err);
			if (r == 0)
				r = put_line(o, s, true, o->partial[s], o->partial_len[s], err);
			o->partial_len[s] = 0;
		} else {
			r = put_line(o, s, true, data, n, err);
		}
		if (r < 0)
			return r;
	}
	return add_partial(o, s, data, (size_t)(end - data), err);
}

int output_flush(struct output *o, struct error *err)
{
	for (int s = 0; s < OUTPUT_STREAMS; s++) {
		size_t n = o->partial_len[s];

		o->partial_len[s] = 0;
		if (n && put_line(o, (enum output_stream)s, false, o->partial[s], n, err) < 0)
			return -err->code;
	}
	return 0;
}

bool output_parse(char *line, const char **ret_time, enum output_stream *ret_stream,
		  bool *ret_full, const char **ret_text)
{
	char *stream = strchr(line, ' '), *tag = stream ? strchr(stream + 1, ' ') : NULL;

	if (!tag || (tag[1] != 'F' && tag[1] != 'P') || tag[2] != ' ')
		return false;
	*stream++ = '\0';
	*tag++ = '\0';
	for (int s = 0; s < OUTPUT_STREAMS; s++) {
		if (strcmp(stream, stream_names[s]) != 0)
			continue;
		*ret_time = line;
		*ret_stream = (enum output_stream)s;
		*ret_full = tag[0] == 'F';
		*ret_text = tag + 2;
		return true;
	}
	return false;
}
