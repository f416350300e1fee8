#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/fd.h"
#include "engine/image/tree_walk.h"
#include "migrate/checkpoint/sums.h"
#include "proto/checksum.h"

#define VERSION 2
#define SUMS_LIMIT (64u << 20)
#define PIECE 262144

struct sums {
	int dirfd;			/* borrowed */
	json_t *root, *files;
};

struct sums_file {
	const char *path;		/* a key of the list */
	const json_t *known;
	int fd;
	struct checksum *sum;
	char piece[PIECE];
};

static void to_digits(const struct checksum *sum, char ret[17])
{
	(void)snprintf(ret, 17, "%016llx", (unsigned long long)checksum_value(sum));
}

static ssize_t read_piece(int fd, struct checksum *sum, char piece[PIECE], struct error *err)
{
	ssize_t n;

	do {
		n = pread(fd, piece, PIECE, (off_t)checksum_bytes(sum));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return error_set(err, errno, "read: %s", strerror(errno));
	checksum_update(sum, piece, (size_t)n);
	return n;
}

/* ---- write ---- */

struct listing {
	json_t *files;
	const char *without;
	char piece[PIECE];
};

static int add(void *ctx, const struct tree_entry *entry, int fd, struct error *err)
{
	CLEANUP(checksum_freep) struct checksum *sum = NULL;
	struct listing *l = ctx;
	char digits[17];
	ssize_t n;

	if (fd < 0 || !strcmp(entry->path, l->without))
		return 0;
	if (checksum_new(&sum, err) < 0)
		return -err->code;
	do {
		n = read_piece(fd, sum, l->piece, err);
	} while (n > 0);
	if (n < 0)
		return error_wrap(err, "%s", entry->path);
	to_digits(sum, digits);
	if (json_object_set_new(l->files, entry->path, json_pack("{s:I,s:s}",
				"size", (json_int_t)checksum_bytes(sum), "xxh3", digits)) < 0)
		return error_set(err, ENOMEM, "out of memory");
	return 0;
}

int sums_write(int dirfd, const char *without, struct error *err)
{
	CLEANUP(freep) struct listing *l = calloc(1, sizeof(*l));
	CLEANUP(freep) char *text = NULL;
	json_t *root;
	int r;

	if (!l)
		return error_set(err, ENOMEM, "out of memory");
	l->files = json_object();
	l->without = without;
	root = json_pack("{s:i,s:o}", "version", VERSION, "files", l->files);
	r = root ? tree_walk(dirfd, true, add, l, NULL, err) : error_set(err, ENOMEM, "out of memory");
	if (r == 0)
		text = json_dumps(root, JSON_INDENT(1) | JSON_SORT_KEYS);
	json_decref(root);
	if (r < 0)
		return error_wrap(err, SUMS_JSON);
	if (!text)
		return error_set(err, ENOMEM, SUMS_JSON ": out of memory");
	return fd_replace_file_at(dirfd, SUMS_JSON, text, strlen(text), 0600, FD_REPLACE, err);
}

/* ---- read ---- */

void sums_free(struct sums *s)
{
	if (!s)
		return;
	json_decref(s->root);
	free(s);
}

static int parse(struct sums *s, const char *text, struct error *err)
{
	json_error_t je;
	int version = 0;

	s->root = json_loads(text, JSON_REJECT_DUPLICATES, &je);
	if (!s->root)
		return error_set(err, EINVAL, SUMS_JSON " is damaged: line %d: %s", je.line, je.text);
	if (json_unpack_ex(s->root, &je, 0, "{s:i,s:o!}", "version", &version, "files", &s->files) < 0)
		return error_set(err, EINVAL, SUMS_JSON ": %s", je.text);
	if (version != VERSION || !json_is_object(s->files))
		return error_set(err, ENOTSUP, SUMS_JSON ": version %d is not supported, only %d", version, VERSION);
	return 0;
}

int sums_read(int dirfd, struct sums **ret, struct error *err)
{
	CLEANUP(sums_freep) struct sums *s = calloc(1, sizeof(*s));
	CLEANUP(freep) char *text = NULL;
	int r;

	if (!s)
		return error_set(err, ENOMEM, "out of memory");
	s->dirfd = dirfd;
	r = fd_read_file_at(dirfd, SUMS_JSON, SUMS_LIMIT, &text, NULL, err);
	if (r == -ENOENT)
		return error_set(err, ENOENT, "it has no " SUMS_JSON ": the checkpoint was not finished");
	if (r < 0 || parse(s, text, err) < 0)
		return -err->code;
	*ret = TAKE_PTR(s);
	return 0;
}

bool sums_has(const struct sums *s, const char *path)
{
	return json_object_get(s->files, path) != NULL;
}

static int open_file(const struct sums *s, const char *path, struct sums_file *f, struct error *err)
{
	f->known = json_object_get(s->files, path);
	if (!f->known)
		return error_set(err, EBADMSG, "%s is not in " SUMS_JSON, path);
	f->path = path;
	f->fd = openat(s->dirfd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (f->fd < 0 && errno == ENOENT)
		return error_set(err, EBADMSG, "%s is missing", path);
	if (f->fd < 0)
		return error_set(err, errno, "%s: %s", path, strerror(errno));
	return checksum_new(&f->sum, err);
}

int sums_open(const struct sums *s, const char *path, struct sums_file **ret, struct error *err)
{
	CLEANUP(sums_file_freep) struct sums_file *f = malloc(sizeof(*f));

	if (!f)
		return error_set(err, ENOMEM, "out of memory");
	f->fd = -EBADF;
	f->sum = NULL;
	if (open_file(s, path, f, err) < 0)
		return -err->code;
	*ret = TAKE_PTR(f);
	return 0;
}

void sums_file_free(struct sums_file *f)
{
	if (!f)
		return;
	fd_close(&f->fd);
	checksum_free(f->sum);
	free(f);
}

ssize_t sums_file_read(void *ctx, const void **ret_data, struct error *err)
{
	struct sums_file *f = ctx;
	ssize_t n = read_piece(f->fd, f->sum, f->piece, err);

	*ret_data = f->piece;
	return n < 0 ? error_wrap(err, "%s", f->path) : n;
}

static int compare(const struct sums_file *f, struct error *err)
{
	const char *xxh3 = json_string_value(json_object_get(f->known, "xxh3"));
	json_int_t size = json_integer_value(json_object_get(f->known, "size"));
	unsigned long long here = checksum_bytes(f->sum);
	char digits[17];

	to_digits(f->sum, digits);
	if (here != (unsigned long long)size)
		return error_set(err, EBADMSG, "%s is damaged: it has %llu bytes and had %lld", f->path, here,
				 (long long)size);
	if (!xxh3 || strcmp(xxh3, digits) != 0)
		return error_set(err, EBADMSG, "%s is damaged: its content has changed", f->path);
	return 0;
}

int sums_file_end(struct sums_file *f, int result, struct error *err)
{
	struct error damage;
	const void *data;
	ssize_t n;

	do {
		n = sums_file_read(f, &data, &damage);
	} while (n > 0);
	if (n < 0 || compare(f, &damage) < 0)
		*err = damage;
	else if (result == 0)
		return 0;
	return -err->code;
}

int sums_load(const struct sums *s, const char *path, size_t limit, char **ret, size_t *ret_len,
	      struct error *err)
{
	CLEANUP(sums_file_freep) struct sums_file *f = NULL;
	CLEANUP(freep) char *text = NULL;
	const void *piece;
	size_t len = 0;
	ssize_t n;

	if (sums_open(s, path, &f, err) < 0)
		return -err->code;
	while ((n = sums_file_read(f, &piece, err)) > 0) {
		char *more = len + (size_t)n > limit ? NULL : realloc(text, len + (size_t)n + 1);

		if (!more)
			return error_set(err, EFBIG, "%s has more than %zu bytes, or there is no memory", path, limit);
		text = more;
		memcpy(text + len, piece, (size_t)n);
		len += (size_t)n;
		text[len] = '\0';
	}
	if (n < 0 || sums_file_end(f, 0, err) < 0)
		return -err->code;
	*ret = text ? TAKE_PTR(text) : strdup("");
	if (ret_len)
		*ret_len = len;
	return *ret ? 0 : error_set(err, ENOMEM, "out of memory");
}

static int copy_file(const struct sums *s, const char *path, const char *name, int to_dirfd, struct error *err)
{
	CLEANUP(sums_file_freep) struct sums_file *f = NULL;
	CLEANUP(fd_closep) int to = -EBADF;
	const void *data;
	ssize_t n;

	if (sums_open(s, path, &f, err) < 0)
		return -err->code;
	to = openat(to_dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to < 0)
		return error_set(err, errno, "copy %s: %s", path, strerror(errno));
	while ((n = sums_file_read(f, &data, err)) > 0)
		if (fd_write_full(to, data, (size_t)n, err) < 0)
			return error_wrap(err, "copy %s", path);
	return n < 0 ? (int)n : sums_file_end(f, 0, err);
}

int sums_copy(const struct sums *s, const char *folder, int to_dirfd, struct error *err)
{
	size_t len = strlen(folder);
	const char *path;
	json_t *known;

	json_object_foreach(s->files, path, known) {
		if (strncmp(path, folder, len) != 0 || path[len] != '/')
			continue;
		if (strchr(path + len + 1, '/') || !path[len + 1])
			return error_set(err, EINVAL, SUMS_JSON ": %.200s is no file of a checkpoint", path);
		if (copy_file(s, path, path + len + 1, to_dirfd, err) < 0)
			return -err->code;
	}
	return 0;
}
