#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/image/tree_walk.h"
#include "migrate/files/file_blocks.h"

#define BLOCKS_WANTED (1u << 16)	/* larger files have larger blocks */
#define BUFFER_SIZE ((size_t)256 << 10)

int file_blocks_new(struct file_blocks *b, struct error *err)
{
	*b = (struct file_blocks){ .buffer = malloc(BUFFER_SIZE) };
	if (!b->buffer)
		return error_set(err, ENOMEM, "out of memory");
	return checksum_new(&b->sum, err);
}

void file_blocks_free(struct file_blocks *b)
{
	checksum_free(b->sum);
	free(b->buffer);
	free(b->now);
	*b = (struct file_blocks){ 0 };
}

static uint64_t count(uint64_t size, uint32_t shift)
{
	return (size >> shift) + ((size & ((1ull << shift) - 1)) != 0);
}

bool file_blocks_fit(const struct file_record *record, uint64_t size)
{
	return record->n_blocks && record->block_shift >= FILE_BLOCKS_SHIFT && record->block_shift < 64 &&
	       count(size, record->block_shift) <= FILE_INDEX_BLOCKS_MAX;
}

int file_blocks_begin(struct file_blocks *b, uint64_t size, const struct file_record *before, struct error *err)
{
	b->size = size;
	b->before = before;
	b->shift = before ? before->block_shift : FILE_BLOCKS_SHIFT;
	while (!before && count(size, b->shift) > BLOCKS_WANTED)
		b->shift++;
	b->n = count(size, b->shift);
	b->data_begin = b->data_end = 0;
	b->sum_next = UINT64_MAX;
	free(b->now);
	b->now = calloc(b->n ? b->n : 1, sizeof(*b->now));
	return b->now ? 0 : error_set(err, ENOMEM, "out of memory");
}

static uint64_t block_end(const struct file_blocks *b, uint64_t i)
{
	uint64_t left = b->size - (i << b->shift);

	return left < 1ull << b->shift ? b->size : (i + 1) << b->shift;
}

/* Where there is data at or after offset; at the end of the file where there is none. */
static int find_data(struct file_blocks *b, int fd, uint64_t offset, struct error *err)
{
	uint64_t len = 0;
	int r;

	if (offset < b->data_end)
		return 0;
	b->data_begin = offset;
	r = tree_next_data(fd, b->size, &b->data_begin, &len, err);
	if (r == 0)
		b->data_begin = b->size;
	b->data_end = r > 0 ? b->data_begin + len : b->size;
	return r < 0 ? r : 0;
}

static uint64_t value(const struct checksum *sum)
{
	uint64_t hash = checksum_value(sum);

	return hash > FILE_BLOCKS_HOLE ? hash : hash + FILE_BLOCKS_HOLE + 1;
}

/* A file that became shorter has a hash that fits nothing that was sent. */
static int hash_block(struct file_blocks *b, int fd, uint64_t i, uint64_t *ret, struct error *err)
{
	uint64_t at = i << b->shift, end = block_end(b, i);

	checksum_reset(b->sum);
	while (at < end) {
		size_t want = end - at < BUFFER_SIZE ? (size_t)(end - at) : BUFFER_SIZE;
		ssize_t n = pread(fd, b->buffer, want, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(err, errno, "read: %s", strerror(errno));
		if (n == 0)
			break;
		checksum_update(b->sum, b->buffer, (size_t)n);
		at += (uint64_t)n;
	}
	*ret = value(b->sum);
	return 0;
}

/* 1: it must be sent. */
static int look_at(struct file_blocks *b, int fd, uint64_t i, struct error *err)
{
	const struct file_record *before = b->before;
	uint64_t old = before && i < before->n_blocks ? before->blocks[i] : FILE_BLOCKS_HOLE;

	if (find_data(b, fd, i << b->shift, err) < 0)
		return -err->code;
	if (b->data_begin >= block_end(b, i)) {
		b->now[i] = FILE_BLOCKS_HOLE;
		return old != FILE_BLOCKS_HOLE;
	}
	if (old <= FILE_BLOCKS_HOLE)
		return 1;
	if (hash_block(b, fd, i, &b->now[i], err) < 0)
		return -err->code;
	return b->now[i] != old;
}

int file_blocks_next(struct file_blocks *b, int fd, uint64_t *offset, uint64_t *ret_len, struct error *err)
{
	for (uint64_t i = count(*offset, b->shift); i < b->n; i++) {
		int r = look_at(b, fd, i, err);

		if (r < 0)
			return r;
		if (r == 0)
			continue;
		b->now[i] = 0;
		*offset = i << b->shift;
		*ret_len = block_end(b, i) - *offset;
		return 1;
	}
	return 0;
}

void file_blocks_sent(struct file_blocks *b, const void *data, size_t len, uint64_t offset)
{
	const uint8_t *bytes = data;

	while (len) {
		uint64_t i = offset >> b->shift, end;
		size_t n;

		if (i >= b->n)
			return;
		end = block_end(b, i);
		n = end - offset < len ? (size_t)(end - offset) : len;
		if (offset == i << b->shift) {
			b->now[i] = 0;
			checksum_reset(b->sum);
			b->sum_next = offset;
		}
		if (b->sum_next == offset) {
			checksum_update(b->sum, bytes, n);
			b->sum_next += n;
			if (b->sum_next == end)
				b->now[i] = value(b->sum);
		}
		bytes += n;
		len -= n;
		offset += n;
	}
}

void file_blocks_end(struct file_blocks *b, struct file_record *to)
{
	free(to->blocks);
	to->blocks = b->now;
	to->n_blocks = b->n;
	to->block_shift = b->shift;
	b->now = NULL;
	b->before = NULL;
	b->n = 0;
}
