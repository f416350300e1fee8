/*
 * file_index.h - what the other side has of a tree of files, file by file
 *
 * Records in the order of a walk (engine/image/tree_walk.h), in a file without a name: each round reads
 * the one of the round before beside the walk and writes the next, so that memory does not grow with the
 * number of files.
 *
 *	r = file_index_new(dirfd, &index, err);
 *	r = file_index_put(index, &record, err);	for each file
 *	r = file_index_rewind(index, err);
 *	while ((r = file_index_next(index, &record, err)) > 0) ...
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"

struct file_index;

struct file_record {
	char path[PATH_MAX];		/* "." is the top */
	uint64_t ino;
	uint64_t size;
	struct timespec ctime;
	mode_t mode;
	uint32_t links;
	bool known;			/* unless these have changed, the other side has it as it is */
	bool hardlink;			/* of an earlier one */
	uint32_t block_shift;		/* 1 << this is the size of a block */
	uint64_t n_blocks;		/* 0: nothing is known of its content */
	uint64_t *blocks;		/* a hash of each that the other side has; file_blocks.h */
};

/* n_blocks of an index are refused above this. */
#define FILE_INDEX_BLOCKS_MAX (1u << 20)

/* Frees blocks and makes it empty. */
void file_record_clear(struct file_record *r);

/* On the file system of dirfd (borrowed). */
int file_index_new(int dirfd, struct file_index **ret, struct error *err);
void file_index_free(struct file_index *index);
DEFINE_CLEANUP(struct file_index *, file_index_free)

int file_index_put(struct file_index *index, const struct file_record *r, struct error *err);

/* Ends writing, or begins again to read. */
int file_index_rewind(struct file_index *index, struct error *err);

/* 1, or 0 at the end. *r is cleared first; what it gets is its owner's. */
int file_index_next(struct file_index *index, struct file_record *r, struct error *err);

/* Empty again, to be written. */
int file_index_empty(struct file_index *index, struct error *err);

/* <0, 0, >0: which path a walk visits first. */
int file_index_compare(const char *a, const char *b);

/* Whether path is inside of folder. */
bool file_index_is_below(const char *path, const char *folder);
