/*
 * carried.h - memory that CRIU shall not dump, because somebody else carries it
 *
 * A list of address ranges in memory that is shared with the shim inside CRIU
 * (shim/shim.c): it is made before CRIU starts and filled when the tasks stand
 * still, in CRIU_PRE_DUMP at the latest. CRIU asks the kernel with PAGEMAP_SCAN
 * which pages to dump; in these ranges it hears of none. Of files in memory
 * (memfd_create(2), shared anonymous and System V memory, deleted files of a tmpfs)
 * it asks by lseek(2), SEEK_DATA; those that are listed have no data.
 *
 *	CLEANUP(carried_freep) struct carried *c = NULL;
 *	r = carried_new(&c, err);
 *	plan.carried = c;
 *	... in CRIU_PRE_DUMP, ascending per process:
 *	r = carried_add(c, pid, start, end, err);
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"

struct carried;

int carried_new(struct carried **ret, struct error *err);
void carried_free(struct carried *c);
DEFINE_CLEANUP(struct carried *, carried_free)

/* [start, end) of a process, as this process sees its pid. Ranges of one process
 * come in ascending order and one after the other. -E2BIG when there are more
 * than CARRIED_MAX. */
int carried_add(struct carried *c, pid_t pid, uint64_t start, uint64_t end, struct error *err);

/* A file in memory, by st_dev and st_ino; sysv: a System V segment. -E2BIG when there
 * are more than CARRIED_OBJECTS_MAX. */
#define CARRIED_OBJECTS_MAX 4096
int carried_add_object(struct carried *c, dev_t dev, ino_t ino, bool sysv, struct error *err);

/* Borrowed: the shared memory. */
int carried_fd(const struct carried *c);
