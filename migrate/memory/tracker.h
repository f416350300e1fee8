/*
 * tracker.h - which pages of a container's processes were written
 *
 * A tracker follows the private anonymous memory of every process of a
 * container, round after round, while it runs. A round hands out the ranges
 * that were written since the round before (in the first: all that is
 * populated), and arms them again in the same step, so that nothing is missed.
 * Nothing is ever taken as clean that might not be: processes, mappings and
 * whole address spaces that are new, were remapped or executed come whole.
 *
 * Backends, probed in this order, never by version:
 *   TRACKER_UFFD       userfaultfd WP_ASYNC + PAGEMAP_SCAN (kernel >= 6.7):
 *                      userfaultfd(2), Documentation/admin-guide/mm/pagemap.rst
 *   TRACKER_SOFT_DIRTY clear_refs and pagemap bit 55: soft-dirty.rst
 *   TRACKER_NONE       each round hands out everything that is populated
 *
 * For UFFD one system call is injected into each process by ptrace(2), which
 * stops it for about 2 ms, once.
 *
 * What is followed ("carried" ranges): private, anonymous, not hugetlb,
 * not [stack], [vdso], [vvar], [vsyscall], not shared, readable by
 * process_vm_readv (PROT_NONE with content is, as the kernel forces it there
 * not: such ranges are left to CRIU). Everything else is CRIU's.
 *
 *   CLEANUP(tracker_freep) struct tracker *t = NULL;
 *   r = tracker_open(cgroup, TRACKER_ANY, &t, err);
 *   r = tracker_round(t, visit, ctx, err);		as often as wanted
 *   ... freeze the container ...
 *   r = tracker_final(t, &visitors, ctx, err);	the last pages, and what is populated at all
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"
#include "engine/cgroup/cgroup.h"

enum tracker_kind { TRACKER_ANY, TRACKER_UFFD, TRACKER_SOFT_DIRTY, TRACKER_NONE };

/* [start, end), page-aligned addresses of one process. */
struct tracker_range {
	uint64_t start, end;
};

struct tracker_process {
	pid_t pid;			/* as this process sees it */
	pid_t ns_pid;			/* in the container: CRIU names images by it */
	uint64_t generation;		/* changes with exec: what was sent before is void */
};

/* A batch of ranges of one process, in address order. */
typedef int (*tracker_visit_fn)(void *ctx, const struct tracker_process *p,
				const struct tracker_range *ranges, size_t n, struct error *err);

struct tracker;

/* cg is borrowed and outlives the tracker. kind: TRACKER_ANY takes the best
 * that works; a named one fails with -EOPNOTSUPP where it doesn't. Nothing is
 * injected yet. */
int tracker_open(const struct cgroup *cg, enum tracker_kind kind, struct tracker **ret,
		 struct error *err);

/* Ends tracking: userfaultfds are closed, so the kernel forgets the marks; the
 * processes go on as if nothing had been. */
void tracker_free(struct tracker *t);
DEFINE_CLEANUP(struct tracker *, tracker_free)

enum tracker_kind tracker_kind(const struct tracker *t);
const char *tracker_kind_name(enum tracker_kind kind);

/* The kind of that name. Errors: EINVAL. */
int tracker_parse_kind(const char *name, enum tracker_kind *ret, struct error *err);

/* One round. The visitor (or who works for it) reads the pages after it was
 * called, never before. Where process_vm_readv(2) gives EFAULT the program has
 * changed the protection or the mapping meanwhile: the page must then be read
 * through /proc/PID/mem, which ignores protection, because it counts as handed
 * out and won't come again before it is written. If that fails too, nothing is
 * mapped there any more; whatever will be comes by itself.
 * Processes that end meanwhile are no error. When the cgroup is
 * frozen nothing is injected any more: processes that are not tracked yet come
 * whole. */
int tracker_round(struct tracker *t, tracker_visit_fn visit, void *ctx, struct error *err);

/* Who hears what. Of one process written comes before what is said of the same
 * addresses as populated, and that before carried. */
struct tracker_final {
	tracker_visit_fn written;	/* as in a round */
	tracker_visit_fn populated;	/* pages that are there, written or not */
	tracker_visit_fn carried;	/* there or not: what CRIU shall not dump */
};

/* Frozen containers only (-EBUSY): the last round, in one walk over the page
 * tables. Nothing is armed. */
int tracker_final(struct tracker *t, const struct tracker_final *visitors, void *ctx,
		  struct error *err);
