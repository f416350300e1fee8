/*
 * shared_allocator.h - the pages of shared memory and of tmpfs files are the container's own
 *
 * The kernel counts a page of a file in memory for the memory control group of the
 * process that first writes it (Documentation/admin-guide/cgroup-v2.rst, "Memory
 * Ownership"), and for good. What comes for a container is written by whoever receives
 * it. So a process in the container's control group allocates the pages before
 * (fallocate(2)), and the container's limit holds for them as it did where it was.
 *
 *   CLEANUP(shared_allocator_free) struct shared_allocator a = SHARED_ALLOCATOR_EMPTY;
 *   a.cgroup = cg;
 *   r = shared_allocator_take(&a, fd, offset, len, err);
 *
 * It is started with the first page, and must have ended when CRIU restores: it is one
 * process of those that the container may have.
 */
#pragma once

#include <stdint.h>

#include "engine/cgroup/cgroup.h"
#include "migrate/helper.h"

struct shared_allocator {
	const struct cgroup *cgroup;	/* borrowed; NULL: pages are whoever's writes them */
	struct helper helper;
};
#define SHARED_ALLOCATOR_EMPTY { .helper = HELPER_EMPTY }

/* Allocates what [offset, offset + len) of fd (borrowed, a file in memory) lacks. -ENOMEM
 * when that is more than the container's limit allows. */
int shared_allocator_take(struct shared_allocator *a, int fd, uint64_t offset, uint64_t len, struct error *err);

/* Ends the process; it may be used again. */
void shared_allocator_free(struct shared_allocator *a);
