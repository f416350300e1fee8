/*
 * sums.h - what the files of a checkpoint were when it was made
 *
 * DIR/sums.json: {"version":2,"files":{"images/pstree.img":{"size":4096,"xxh3":"16 digits"}, ...}},
 * a line for each regular file below DIR but the pages, which have sums of their
 * own (proto/store_index.h). CRIU trusts its images: it waits for ever for pages
 * that a truncated one doesn't have. The sums find damage, not malice
 * (proto/checksum.h), and being written last they tell a checkpoint that was not
 * finished.
 *
 * What is read through here is compared with its sum while it is read, so that
 * nothing is used that was not checked. -EBADMSG names the file that differs or
 * is missing. Files that came later are none of its business.
 *
 *   r = sums_read(dir, &sums, err);
 *   r = sums_load(sums, "config.json", limit, &text, &len, err);
 *   r = sums_open(sums, "upper.tar", &file, err);
 *   r = tree_unpack(upper, sums_file_read, file, ...);
 *   r = sums_file_end(file, r, err);
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"

#define SUMS_JSON "sums.json"

/* dirfd is the checkpoint's directory (borrowed); without is the path of the
 * file that is left out. */
int sums_write(int dirfd, const char *without, struct error *err);

struct sums;

/* dirfd (borrowed) must stay open. -ENOENT when the checkpoint was not finished. */
int sums_read(int dirfd, struct sums **ret, struct error *err);
void sums_free(struct sums *s);
DEFINE_CLEANUP(struct sums *, sums_free)

bool sums_has(const struct sums *s, const char *path);

/* A whole file, as fd_read_file_at. */
int sums_load(const struct sums *s, const char *path, size_t limit, char **ret, size_t *ret_len,
	      struct error *err);

/* Copies every file of the list that is in the folder into another (borrowed). */
int sums_copy(const struct sums *s, const char *folder, int to_dirfd, struct error *err);

/* A file from its first byte to its last. */
struct sums_file;
int sums_open(const struct sums *s, const char *path, struct sums_file **ret, struct error *err);
void sums_file_free(struct sums_file *f);
DEFINE_CLEANUP(struct sums_file *, sums_file_free)

/* A tree_read_fn (engine/image/tree.h); ctx is the file. */
ssize_t sums_file_read(void *ctx, const void **ret_data, struct error *err);

/* Reads what is left and compares. result is what became of its reader: a
 * failure of that is the answer unless damage explains it. */
int sums_file_end(struct sums_file *f, int result, struct error *err);
