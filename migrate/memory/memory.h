/*
 * memory.h - the source's memory on its way: rounds while the container runs,
 * and the last one while it stands still
 *
 * One struct memory lives through a migration. Each round asks the tracker what
 * was written, sends those pages (page_lanes.h) and ends. Its memory does not
 * grow with the container. Shared memory goes along, in its own way (shared.h).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "criu-glue/carried.h"
#include "engine/base/cleanup.h"
#include "engine/cgroup/cgroup.h"
#include "migrate/channel/channel.h"
#include "migrate/memory/policy.h"
#include "migrate/memory/tracker.h"
#include "migrate/timeline.h"

struct memory;

struct memory_stats {
	uint64_t rounds;
	uint64_t pages_sent, pages_zero, pages_unchanged;
};

/* cg and the channels are borrowed; what can't be divided goes over the first. init:
 * the container's first process. files: those of its tmpfs mounts go along (shared.h). */
int memory_open(const struct cgroup *cg, enum tracker_kind kind, pid_t init, bool files,
		struct channel *const *channels, size_t n_channels, struct memory **ret, struct error *err);
void memory_free(struct memory *m);
DEFINE_CLEANUP(struct memory *, memory_free)

/* One round as one MEMORY tree. */
int memory_round(struct memory *m, struct policy_round *ret, struct error *err);

/* The container is frozen: the last round with the map of what is populated,
 * and the list of what CRIU leaves out; with verify also a hash of each address
 * space, for which all of its memory is read. */
int memory_last_round(struct memory *m, struct carried *carried, bool verify, struct timeline *line,
		      struct policy_round *ret, struct error *err);

/* Next of all that is sent: what has changed in shared memory, in a tree of its own.
 * It was looked for since the last round began, by threads: between the two no
 * process may be forked. Adds to *ret. */
int memory_last_shared(struct memory *m, bool verify, struct policy_round *ret, struct error *err);

/* After memory_last_shared: see shared_has_sent. */
bool memory_has_sent(const struct memory *m, const char *path, int fd);

struct memory_stats memory_stats(const struct memory *m);
const char *memory_tracker_name(const struct memory *m);
