/*
 * tree_walk.h - visit every file of a directory tree, in a canonical order
 *
 * A directory comes before what is in it, names in the order of their bytes,
 * so two equal trees are visited alike. Of several hard links the first is the
 * file and the others name it. Symlinks are not followed; a mount point is
 * visited as an empty directory, and not at all if it isn't one. A file that
 * vanishes meanwhile is left out.
 *
 * Needs a descriptor for each level of nesting.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/error.h"
#include "engine/image/tree.h"
#include "engine/image/tree_entry.h"

/* entry lives until the call returns. fd is open for reading on a regular file
 * that is no hard link to an earlier one (borrowed), else -EBADF. */
typedef int (*tree_visit_fn)(void *ctx, const struct tree_entry *entry, int fd,
			     struct error *err);

/* Which of the files are visited. */
struct tree_choice {
	/* Asked before e is opened or its attributes are read: 1, or 0 it is left out. What is in a
	 * folder is asked for on its own. */
	int (*wanted)(void *ctx, const struct tree_entry *e, struct error *err);
	bool live;			/* what is replaced meanwhile is left out */
};

/* Visits the tree below dirfd (borrowed), "." first. With contents false
 * neither files are opened nor attributes read. stats (may be NULL) counts
 * entries and skipped sockets; bytes are the visitor's business. */
int tree_walk(int dirfd, bool contents, tree_visit_fn visit, void *ctx, struct tree_stats *stats,
	      struct error *err);

/* As tree_walk with contents, of what choice wants; both get ctx. */
int tree_walk_chosen(int dirfd, const struct tree_choice *choice, tree_visit_fn visit, void *ctx,
		     struct tree_stats *stats, struct error *err);

/* Finds the next piece of data of a sparse file at or after *offset: returns 1
 * with its place, 0 when only a hole follows up to size. lseek(2). */
int tree_next_data(int fd, uint64_t size, uint64_t *offset, uint64_t *ret_len, struct error *err);
