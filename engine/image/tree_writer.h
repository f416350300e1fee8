/*
 * tree_writer.h - make files below a directory, from entries nobody vouches for
 *
 *   tree_writer_new(dirfd, &limits, &writer, err);
 *   for each entry:
 *	tree_writer_begin(writer, &entry, err);
 *	tree_writer_data(writer, data, len, offset, err);	regular files only
 *	tree_writer_end(writer, err);
 *   tree_writer_finish(writer, &stats, err);
 *
 * Every path is resolved by the kernel beneath dirfd, through no symlink and
 * no mount point (openat2(2), RESOLVE_BENEATH): nothing outside can be
 * written, linked to or given another owner, whatever the names say and in
 * whatever order they come. The working directory and umask don't matter and
 * don't change.
 *
 * Owners, modes, attributes and times of directories are set at the end, so a
 * read-only directory can be filled. A missing parent is made as 0755. What
 * exists is replaced, except a directory that isn't empty, but with changes that, too.
 *
 * Errors don't name the entry: the caller knows it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"
#include "engine/image/tree.h"
#include "engine/image/tree_entry.h"

struct tree_writer;

/* Borrows dirfd; limits may be NULL. */
int tree_writer_new(int dirfd, const struct tree_limits *limits, struct tree_writer **ret,
		    struct error *err);
void tree_writer_free(struct tree_writer *w);
DEFINE_CLEANUP(struct tree_writer *, tree_writer_free)

/* Files that are there already are taken from contents->bring (tree.h), which is
 * borrowed; NULL: none. */
void tree_writer_set_contents(struct tree_writer *w, const struct tree_contents *contents);

/* The entries are changes of what is there (tree.h). */
void tree_writer_set_changes(struct tree_writer *w);

/* Sockets are skipped and counted. A hard link with a size brings new content
 * for the file that it names. */
int tree_writer_begin(struct tree_writer *w, const struct tree_entry *entry, struct error *err);

/* What is never written is a hole. */
int tree_writer_data(struct tree_writer *w, const void *data, size_t len, uint64_t offset,
		     struct error *err);

/* The same from a file at the same offset; shares blocks where the file
 * system can (copy_file_range(2)). */
int tree_writer_copy(struct tree_writer *w, int from_fd, uint64_t offset, uint64_t len,
		     struct error *err);
int tree_writer_end(struct tree_writer *w, struct error *err);

/* Completes the directories. ret may be NULL. */
int tree_writer_finish(struct tree_writer *w, struct tree_stats *ret, struct error *err);
