/*
 * tree_folders.h - directories whose owner, mode, attributes and time are set when all is in them
 *
 * So a read-only one can be filled, and none gets the time at which that was done.
 *
 *	r = tree_folders_add(&folders, entry, err);		for each that is made
 *	r = tree_folders_complete(&folders, &places, changes, err);
 */
#pragma once

#include "engine/base/error.h"
#include "engine/image/tree_entry.h"
#include "engine/image/tree_places.h"

struct tree_folders {
	struct tree_folder *latest;
	char *noted;			/* PATH_MAX, or NULL */
};

void tree_folders_clear(struct tree_folders *f);

int tree_folders_add(struct tree_folders *f, const struct tree_entry *e, struct error *err);

/* The folder at fd (borrowed), path, is about to be changed and may not be added: its time is to stay. If
 * it is added, that must come before this. */
int tree_folders_note_time(struct tree_folders *f, int fd, const char *path, struct error *err);

/* changes: they may have been there, with attributes that they are not to have. */
int tree_folders_complete(struct tree_folders *f, const struct tree_places *places, bool changes, struct error *err);
