/*
 * tree_places.h - find the folder that a name of an archive belongs to, safely
 *
 * The kernel resolves every path beneath the top, through no symlink and no
 * mount point, whatever the path says: openat2(2) with RESOLVE_BENEATH. What
 * is found is an open directory and one last name in it, to be used with
 * calls that don't follow symlinks.
 */
#pragma once

#include <limits.h>
#include <stdint.h>

#include "engine/base/error.h"

struct tree_places {
	int top_fd;			/* borrowed */
	uint64_t made;			/* parents that were missing */
	/* the last parent that was opened: most entries share it */
	int parent_fd;
	char parent[PATH_MAX];
};

struct tree_place {
	int parent_fd;			/* the places': valid until the next find */
	char name[NAME_MAX + 1];	/* empty: the top itself */
};

void tree_places_init(struct tree_places *p, int top_fd);
void tree_places_clear(struct tree_places *p);

/* Writes path without "." and doubled or final slashes; the top is "". An
 * absolute path and one with ".." are -EPROTO. */
int tree_path_normalize(const char *path, char ret[PATH_MAX], struct error *err);

/* Parents that are missing are made as 0755. -EPROTO when one is a symlink, no
 * folder, or a mount point. */
int tree_places_find(struct tree_places *p, const char *path, struct tree_place *ret,
		     struct error *err);

/* After something was removed: it may have been the folder that was opened last. */
void tree_places_forget(struct tree_places *p);

/* openat2(2) of a path ("": the top) below the top; -1 and errno. */
int tree_places_open(const struct tree_places *p, const char *path, int flags);
