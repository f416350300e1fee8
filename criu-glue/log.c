#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "criu-glue/log.h"
#include "engine/base/cleanup.h"

#define LOG_TAIL_BYTES (1 << 20)

static const char marker[] = "Error (";

/* What CRIU says after the cause is known, or says and goes on. */
static const char *const consequences[] = {
	"Dumping FAILED",
	"Restoring FAILED",
	"Killing processes because of failure on restore",
	"The Network was unlocked so some data",
	"One of more action scripts failed",
	"Pre dump script failed with",
	"RPC client reported script error",
	"Can't setup RLIMIT_NOFILE",
	"Unable to kill",
	"No children to wait",
	"exited, status=",
	"killed by signal 9",
	"Aborting restore due to",
};

static bool is_consequence(const char *message, size_t len)
{
	for (size_t i = 0; i < sizeof(consequences) / sizeof(consequences[0]); i++)
		if (memmem(message, len, consequences[i], strlen(consequences[i])))
			return true;
	return false;
}

/* "criu/a.c:5): text" -> "text (criu/a.c:5)"; a line of another shape is kept. */
static void write_line(const char *line, size_t len, char ret[LOG_LINE_MAX])
{
	const char *close = memmem(line, len, "): ", 3);
	const char *text = close ? close + 3 : line;
	size_t text_len = len - (size_t)(text - line);

	if (text_len > LOG_LINE_MAX / 2 && close)
		text_len = text_len > LOG_LINE_MAX - 64 ? LOG_LINE_MAX - 64 : text_len;
	if (close)
		(void)snprintf(ret, LOG_LINE_MAX, "%.*s (%.*s)", (int)text_len, text,
			       (int)(close - line), line);
	else
		(void)snprintf(ret, LOG_LINE_MAX, "%.*s", (int)text_len, text);
	for (char *p = ret; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
}

int log_decisive_line(const char *text, char ret[LOG_LINE_MAX])
{
	const char *fallback = NULL;
	size_t fallback_len = 0;

	ret[0] = '\0';
	for (const char *p = text; (p = strstr(p, marker));) {
		const char *line = p + strlen(marker);
		size_t len = strcspn(line, "\n");

		p = line + len;
		if (!is_consequence(line, len)) {
			write_line(line, len, ret);
			return 0;
		}
		if (!fallback) {
			fallback = line;
			fallback_len = len;
		}
	}
	if (!fallback)
		return 1;
	write_line(fallback, fallback_len, ret);
	return 0;
}

int log_file_decisive_line(int dirfd, const char *name, char ret[LOG_LINE_MAX], struct error *err)
{
	CLEANUP(fd_closep) int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	CLEANUP(freep) char *text = NULL;
	struct stat st;
	off_t from;
	ssize_t n;

	ret[0] = '\0';
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(err, errno, "open %s: %s", name, strerror(errno));
	text = malloc(LOG_TAIL_BYTES + 1);
	if (!text)
		return error_set(err, ENOMEM, "out of memory");
	from = st.st_size > LOG_TAIL_BYTES ? st.st_size - LOG_TAIL_BYTES : 0;
	n = pread(fd, text, LOG_TAIL_BYTES, from);
	if (n < 0)
		return error_set(err, errno, "read %s: %s", name, strerror(errno));
	text[n] = '\0';
	return log_decisive_line(text, ret);
}
