/*
 * files.h - the source's changes to files on their way: rounds while the container runs, and the last one
 * while it stands still
 *
 * Each round is one TREE UPPER (engine/image/tree.h: a stream of changes) of what is not on the other side
 * yet. What a file was when it was sent is kept in an index (file_index.h). It is not looked into again if
 * inode and change time are the same, and if at the time when it was looked at
 *
 * - the change time was over, so that a later change has another;
 * - nobody had it open for writing: not even a long write(2), asynchronous I/O or a shared mapping, all of
 *   which change contents without a new time, was under way (fcntl(2), F_SETLEASE);
 * - the file system was one on which the first write through a new mapping sets the time.
 *
 * Nor if the clock was set meanwhile. Any other file is read again, and the blocks that differ are sent
 * (file_blocks.h). Needs no memory that grows with the number of files, but for those with several links.
 *
 *	r = files_open(upper, channel, &files, err);
 *	r = files_round(files, &round, err);		while the container runs
 *	r = files_last(files, &round, err);		it stands still
 */
#pragma once

#include <stdint.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"
#include "migrate/channel/channel.h"
#include "migrate/memory/policy.h"

struct files;

struct files_stats {
	uint64_t rounds;		/* before the last one */
	uint64_t bytes;			/* of contents that they sent */
	uint64_t last_bytes;		/* and the last one */
};

/* dirfd: the tree; borrowed, as the channel. */
int files_open(int dirfd, struct channel *channel, struct files **ret, struct error *err);
void files_free(struct files *f);
DEFINE_CLEANUP(struct files *, files_free)

/* Adds to *ret what it found and how long that took. */
int files_round(struct files *f, struct policy_round *ret, struct error *err);
int files_last(struct files *f, struct policy_round *ret, struct error *err);

struct files_stats files_stats(const struct files *f);
