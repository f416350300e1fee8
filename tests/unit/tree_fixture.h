/*
 * tree_fixture.h - scratch trees and streams in memory, for the tests of trees
 */
#pragma once

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/image/tree.h"

/* A folder of its own for each test: "a" and "b" are trees, what else is in
 * it lies outside of them. */
struct scratch {
	char path[64];
	int top, a, b;
};

static inline int setup(void **state)
{
	struct scratch *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	strcpy(s->path, "/var/tmp/godwit-tree-XXXXXX");
	assert_non_null(mkdtemp(s->path));
	s->top = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(s->top, "a", 0755), 0);
	assert_int_equal(mkdirat(s->top, "b", 0755), 0);
	s->a = openat(s->top, "a", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	s->b = openat(s->top, "b", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(s->top >= 0 && s->a >= 0 && s->b >= 0);
	*state = s;
	return 0;
}

static inline int teardown(void **state)
{
	struct scratch *s = *state;
	struct error err;

	fd_close(&s->a);
	fd_close(&s->b);
	fd_close(&s->top);
	assert_int_equal(fd_remove_tree_at(AT_FDCWD, s->path, &err), 0);
	free(s);
	return 0;
}

/* --- streams in memory --- */

struct stream {
	char *data;
	size_t len, pos, chunk;
	size_t fail_at;		/* of a write; 0: never */
};

static inline void stream_clear(struct stream *s)
{
	free(s->data);
}

static inline int stream_write(void *ctx, const void *data, size_t len, struct error *err)
{
	struct stream *s = ctx;
	char *more = realloc(s->data, s->len + len);

	assert_non_null(more);
	s->data = more;
	if (s->fail_at && s->len + len > s->fail_at)
		return error_set(err, ECONNRESET, "peer went away");
	memcpy(s->data + s->len, data, len);
	s->len += len;
	return 0;
}

static inline ssize_t stream_read(void *ctx, const void **ret_data, struct error *err)
{
	struct stream *s = ctx;
	size_t n = s->len - s->pos;

	(void)err;
	if (s->chunk && n > s->chunk)
		n = s->chunk;
	*ret_data = s->data + s->pos;
	s->pos += n;
	return (ssize_t)n;
}

static inline void check(int r, const struct error *err)
{
	if (r)
		fail_msg("%d: %s", r, err->msg);
}

static inline void put(int dir, const char *path, const char *text, mode_t mode)
{
	CLEANUP(fd_closep) int fd = openat(dir, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		fail_msg("create %s: %s", path, strerror(errno));
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
}

static inline struct stat status(int dir, const char *path)
{
	struct stat st = { 0 };

	if (fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		fail_msg("stat %s: %s", path, strerror(errno));
	return st;
}
