/*
 * file_blocks.h - which blocks of a file differ from those that the other side has
 *
 * A file that was sent is known by a hash of each block, made of the very bytes that were sent. When it may have
 * changed, all of it is read, but only blocks with another hash are sent again.
 *
 *	r = file_blocks_begin(&b, size, before, err);
 *	while ((r = file_blocks_next(&b, fd, &offset, &len, err)) > 0) ...	what is to be sent
 *	file_blocks_sent(&b, data, len, offset);				as it was read
 *	file_blocks_end(&b, &record);
 */
#pragma once

#include "migrate/files/file_index.h"
#include "proto/checksum.h"

#define FILE_BLOCKS_SHIFT 16
#define FILE_BLOCKS_HOLE 1u		/* instead of a hash: there is no data */

struct file_blocks {
	uint64_t size;
	uint32_t shift;
	uint64_t n;
	uint64_t *now;			/* what the other side will have; 0: unknown */
	const struct file_record *before;	/* NULL: it has nothing of it */
	uint64_t data_begin, data_end;	/* where there is data, found last */
	struct checksum *sum;		/* of the block that is being sent, begun at its begin */
	uint64_t sum_next;		/* where that goes on */
	uint8_t *buffer;
};

int file_blocks_new(struct file_blocks *b, struct error *err);
void file_blocks_free(struct file_blocks *b);

/* before (borrowed until the end) is what the other side has, or NULL. */
int file_blocks_begin(struct file_blocks *b, uint64_t size, const struct file_record *before, struct error *err);

/* A block at or after *offset that is to be sent: 1, or 0. Holes that the other side gets by itself are not. */
int file_blocks_next(struct file_blocks *b, int fd, uint64_t *offset, uint64_t *ret_len, struct error *err);

/* Pieces of blocks, each from its begin on. */
void file_blocks_sent(struct file_blocks *b, const void *data, size_t len, uint64_t offset);

/* Hands over what is known now. */
void file_blocks_end(struct file_blocks *b, struct file_record *to);

/* Whether a file of this size can be sent as changes of what record tells. */
bool file_blocks_fit(const struct file_record *record, uint64_t size);
