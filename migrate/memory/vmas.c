#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "engine/base/cleanup.h"
#include "migrate/memory/pagescan.h"
#include "migrate/memory/vmas.h"

#define VMAS_MAX (1u << 24)
#define ADDRESS_END (UINT64_C(1) << 57)

/* The next character, or -1 at the end, or a negative errno below that. */
static int next_char(struct maps_reader *r)
{
	if (r->at == r->len) {
		ssize_t n = read(r->fd, r->text, sizeof(r->text));

		if (n < 0)
			return errno == ESRCH ? -1 : -1 - errno;
		if (n == 0)
			return -1;
		r->at = 0;
		r->len = (size_t)n;
	}
	return (unsigned char)r->text[r->at++];
}

/* A line without its newline, cut to size - 1 characters. */
static int next_line(struct maps_reader *r, char *line, size_t size, struct error *err)
{
	size_t n = 0;
	int c;

	while ((c = next_char(r)) >= 0 && c != '\n')
		if (n + 1 < size)
			line[n++] = (char)c;
	if (c < -1)
		return error_set(err, -1 - c, "read maps: %s", strerror(-1 - c));
	line[n] = '\0';
	return c == '\n';
}

static const char *parse_hex(const char *s, uint64_t *ret)
{
	uint64_t value = 0;

	for (;; s++) {
		if (*s >= '0' && *s <= '9')
			value = value << 4 | (uint64_t)(*s - '0');
		else if (*s >= 'a' && *s <= 'f')
			value = value << 4 | (uint64_t)(*s - 'a' + 10);
		else
			break;
	}
	*ret = value;
	return s;
}

/* Past the next run of blanks. */
static const char *next_word(const char *s)
{
	s += strcspn(s, " ");
	return s + strspn(s, " ");
}

/* start-end perms offset major:minor inode name */
static bool parse_line(const char *s, struct maps_line *ret)
{
	struct maps_line line = { 0 };
	uint64_t major, minor;
	char *end;

	s = parse_hex(s, &line.start);
	if (*s++ != '-')
		return false;
	s = next_word(parse_hex(s, &line.end));
	if (strlen(s) < sizeof(line.perms) || line.end <= line.start ||
	    (line.start | line.end) % PAGESCAN_PAGE)
		return false;
	memcpy(line.perms, s, sizeof(line.perms));
	s = parse_hex(next_word(next_word(s)), &major);
	if (*s++ != ':')
		return false;
	s = next_word(parse_hex(s, &minor));
	line.dev = makedev((unsigned)major, (unsigned)minor);
	line.inode = strtoull(s, &end, 10);
	if (end == s)
		return false;
	s = end + strspn(end, " ");
	(void)snprintf(line.name, sizeof(line.name), "%s", s);
	*ret = line;
	return true;
}

int maps_next(struct maps_reader *reader, struct maps_line *ret, struct error *err)
{
	char text[128];
	int r = next_line(reader, text, sizeof(text), err);

	if (r > 0 && !parse_line(text, ret))
		return error_set(err, EPROTO, "maps has a line that can't be read: '%.60s'", text);
	return r;
}

/* Private, anonymous, readable, no stack of the main thread and nothing of the
 * kernel's. */
static bool is_carried(const struct maps_line *line)
{
	static const char named[] = "[anon:";

	return line->perms[0] == 'r' && line->perms[3] == 'p' && line->inode == 0 &&
	       line->end <= ADDRESS_END &&
	       (!*line->name || !strcmp(line->name, "[heap]") ||
		!strncmp(line->name, named, sizeof(named) - 1));
}

/* A mapping that grew downwards while we read, by a merge, overlaps the last. */
static int add(struct vmas *vmas, const struct maps_line *line, struct error *err)
{
	uint64_t last = vmas->n ? vmas->at[vmas->n - 1].end : 0;

	if (line->end <= last)
		return 0;
	if (vmas->n == vmas->size) {
		size_t size = vmas->size ? vmas->size * 2 : 256;
		struct vma *more = size <= VMAS_MAX ? reallocarray(vmas->at, size, sizeof(*more))
						    : NULL;

		if (!more)
			return error_set(err, ENOMEM, "out of memory for %zu mappings", size);
		vmas->at = more;
		vmas->size = size;
	}
	vmas->at[vmas->n++] = (struct vma){
		.start = line->start > last ? line->start : last,
		.end = line->end,
	};
	return 0;
}

static int read_maps(struct vmas *vmas, int fd, struct error *err)
{
	struct maps_reader reader = { .fd = fd };
	struct maps_line line;
	int r;

	while ((r = maps_next(&reader, &line, err)) > 0)
		if (is_carried(&line) && add(vmas, &line, err) < 0)
			return -err->code;
	return r;
}

int vmas_read(struct vmas *vmas, int dir_fd, struct error *err)
{
	CLEANUP(fd_closep) int fd = openat(dir_fd, "maps", O_RDONLY | O_CLOEXEC);

	vmas->n = 0;
	if (fd < 0 && (errno == ESRCH || errno == ENOENT))
		return 0;
	if (fd < 0)
		return error_set(err, errno, "open maps: %s", strerror(errno));
	return read_maps(vmas, fd, err);
}

void vmas_free(struct vmas *vmas)
{
	free(vmas->at);
	*vmas = (struct vmas){ 0 };
}
