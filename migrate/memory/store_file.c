#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/fd.h"
#include "migrate/memory/store_file.h"
#include "migrate/memory/store_state.h"
#include "proto/store_index.h"

#define CHECK_PAGES 64u

/* ---- save ---- */

static int count(void *ctx, uint32_t pid, uint64_t address, uint64_t n, uint64_t slot, struct error *err)
{
	uint64_t *n_extents = ctx;

	(void)pid;
	(void)address;
	(void)n;
	(void)slot;
	(void)err;
	(*n_extents)++;
	return 0;
}

static int put(FILE *out, const void *data, size_t len, struct error *err)
{
	if (fwrite(data, len, 1, out) != 1)
		return error_set(err, errno, "write " STORE_INDEX ": %s", strerror(errno));
	return 0;
}

static int put_extent(void *out, uint32_t pid, uint64_t address, uint64_t n, uint64_t slot,
		      struct error *err)
{
	const struct store_extent e = { .pid = pid, .address = address, .n_pages = n, .slot = slot };
	uint8_t bytes[STORE_INDEX_EXTENT_BYTES];

	store_index_encode_extent(&e, bytes);
	return put(out, bytes, sizeof(bytes), err);
}

static int write_index(const struct store *s, FILE *out, struct error *err)
{
	uint8_t head[STORE_INDEX_HEAD_BYTES], sum[STORE_INDEX_SUM_BYTES];
	uint64_t n_extents = 0;

	if (store_walk(s, count, &n_extents, err) < 0)
		return -err->code;
	store_index_encode_head(s->n_slots, n_extents, head);
	if (put(out, head, sizeof(head), err) < 0 || store_walk(s, put_extent, out, err) < 0)
		return -err->code;
	for (uint64_t i = 0; i < s->n_slots; i++) {
		store_index_encode_sum(s->sums[i], sum);
		if (put(out, sum, sizeof(sum), err) < 0)
			return -err->code;
	}
	if (fflush(out) != 0)
		return error_set(err, errno, "write " STORE_INDEX ": %s", strerror(errno));
	return 0;
}

/* A file system that knows no holes keeps them. */
static void punch_unused(const struct store *s)
{
	for (size_t i = 0; i < s->n_freed; i++)
		(void)fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				(off_t)((uint64_t)s->freed[i] * STORE_PAGE), STORE_PAGE);
}

int store_save(struct store *s, int dirfd, struct error *err)
{
	CLEANUP(file_closep) FILE *out = NULL;
	int fd;

	if (s->map)
		return error_set(err, EINVAL, "the page store is in memory");
	punch_unused(s);
	if (ftruncate(s->fd, (off_t)(s->n_slots * STORE_PAGE)) < 0)
		return error_set(err, errno, "cut " STORE_PAGES ": %s", strerror(errno));
	fd = openat(dirfd, STORE_INDEX, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_set(err, errno, "make " STORE_INDEX ": %s", strerror(errno));
	out = fdopen(fd, "w");
	if (!out) {
		(void)close(fd);
		return error_set(err, ENOMEM, "out of memory");
	}
	return write_index(s, out, err);
}

/* ---- load ---- */

static int check_size(int pages_fd, uint64_t n_slots, struct error *err)
{
	struct stat st;

	if (fstat(pages_fd, &st) < 0)
		return error_set(err, errno, STORE_PAGES ": %s", strerror(errno));
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != n_slots * STORE_PAGE)
		return error_set(err, EBADMSG, "memory/" STORE_PAGES " is damaged: it has %llu bytes and had %llu",
				 (unsigned long long)st.st_size, (unsigned long long)n_slots * STORE_PAGE);
	return 0;
}

static int load_sums(struct store *s, const struct store_index *index, struct error *err)
{
	s->sums = calloc(index->n_slots + 1, sizeof(*s->sums));
	if (!s->sums)
		return error_set(err, ENOMEM, "no memory for the sums of a page store");
	s->sums_size = s->n_slots = index->n_slots;
	for (uint64_t i = 0; i < index->n_slots; i++)
		s->sums[i] = store_index_sum(index, i);
	return 0;
}

int store_load(const void *data, size_t len, int pages_fd_consumed, struct store **ret, struct error *err)
{
	CLEANUP(fd_closep) int pages = pages_fd_consumed;
	CLEANUP(store_freep) struct store *s = NULL;
	struct store_index index;

	if (store_index_decode(data, len, &index, err) < 0 || check_size(pages, index.n_slots, err) < 0 ||
	    store_new_in(TAKE_FD(pages), index.n_slots ? index.n_slots : 1, &s, err) < 0 ||
	    load_sums(s, &index, err) < 0)
		return -err->code;
	for (uint64_t i = 0; i < index.n_extents; i++) {
		const struct store_extent e = store_index_extent(&index, i);

		if (store_adopt(s, e.pid, e.address, e.n_pages, e.slot, err) < 0)
			return -err->code;
	}
	store_close(s);
	*ret = TAKE_PTR(s);
	return 0;
}

/* ---- check ---- */

static int check_extent(void *ctx, uint32_t pid, uint64_t address, uint64_t n, uint64_t slot,
			struct error *err)
{
	uint8_t room[CHECK_PAGES * STORE_PAGE];

	(void)pid;
	(void)address;
	while (n > 0) {
		size_t some = n < CHECK_PAGES ? n : CHECK_PAGES;
		const void *pages;

		if (store_read(ctx, slot, some, room, &pages, err) < 0)
			return -err->code;
		slot += some;
		n -= some;
	}
	return 0;
}

int store_check(const struct store *s, struct error *err)
{
	return store_walk(s, check_extent, (void *)(uintptr_t)s, err);
}
