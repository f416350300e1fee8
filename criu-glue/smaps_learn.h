/*
 * smaps_learn.h - the program behind smaps.h, and what its numbers are called
 *
 * Loads the BPF iterator and lets it tell of this process, whose own smaps tells
 * the same in words: flag by flag in ascending order, a name of two letters for
 * each. Mappings are made that have what programs ask for by madvise(2) and the
 * like. At last smaps.h must say of this process what the kernel says, word by
 * word, or nothing is learnt.
 *
 *	CLEANUP(smaps_closep) struct smaps s = SMAPS_EMPTY;
 *	if (smaps_open(&s, &ignored) == 0) ... s.program_fd, s.names_fd go to the shim
 */
#pragma once

#include <errno.h>

#include "criu-glue/smaps.h"
#include "engine/base/error.h"

/* Both owned, -EBADF where there is none. */
struct smaps {
	int program_fd;
	int names_fd;			/* memory: a struct smaps_names */
};
#define SMAPS_EMPTY { .program_fd = -EBADF, .names_fd = -EBADF }

/* Some milliseconds. -EOPNOTSUPP where the kernel (before 6.1, or without BTF)
 * or our rights don't have it. The caller is single-threaded. */
int smaps_open(struct smaps *ret, struct error *err);
void smaps_closep(struct smaps *s);

/* What was learnt, for whoever is no shim. */
int smaps_names(const struct smaps *s, struct smaps_names *ret, struct error *err);
