/*
 * prepared.h - shared memory that is there before CRIU restores who uses it
 *
 * CRIU makes a file in memory for each shared object (memfd_create(2), shmget(2))
 * and reads its content from pagemap-shmem-ID.img. Objects that are listed here
 * have theirs already: the shim inside CRIU (shim/shim.c) gives the tasks the
 * prepared file instead, so nothing is copied. A System V segment can't be given
 * that way; its content is copied from the prepared file.
 *
 * The list is memory of its own, which CRIU is started with; it may be filled until
 * the restore begins, also by another process, which keeps the descriptors until
 * the restore is over.
 *
 *	CLEANUP(prepared_freep) struct prepared *p = NULL;
 *	r = prepared_new(&p, err);
 *	plan.prepared_fd = prepared_fd(p);
 *	r = criu_restorer_start(...);
 *	r = prepared_add(p, &memory, err);
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"

struct prepared;

struct prepared_memory {
	uint64_t id;			/* in the images: inode at the dump, or System V id */
	uint64_t size;			/* bytes */
	bool sysv;
	unsigned huge_shift;		/* log2 of its huge pages' size; 0: ordinary ones */
	int fd;				/* borrowed, of this process */
};

/* So many at most, where the container has a user namespace (shim/userns.c). */
#define PREPARED_INSIDE_MAX 252

int prepared_new(struct prepared **ret, struct error *err);
void prepared_free(struct prepared *p);
DEFINE_CLEANUP(struct prepared *, prepared_free)

/* -E2BIG when there are too many. */
int prepared_add(struct prepared *p, const struct prepared_memory *m, struct error *err);

/* Borrowed: the list. It may be handed to another process, who takes it by
 * prepared_adopt. */
int prepared_fd(const struct prepared *p);
int prepared_adopt(int fd_consume, struct prepared **ret, struct error *err);
