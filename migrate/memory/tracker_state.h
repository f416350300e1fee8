/*
 * tracker_state.h - what the files of the tracker share
 */
#pragma once

#include "migrate/memory/address_space.h"
#include "migrate/memory/pagescan.h"
#include "migrate/memory/tracker.h"
#include "migrate/memory/vmas.h"

enum { TRACKER_BATCH = 4096 };

/* A process that was met in the last round. */
struct tracked {
	struct tracker_process id;
	struct identity identity;
	uint64_t round;			/* the last one in which it was there */
	unsigned failures;		/* attempts at following it */
	bool followed;			/* the backend knows what was written since: */
	bool fresh;			/* or rather nothing yet: all must come whole */
	bool doubtful;			/* some of it may be marked wrongly: fresh next */
	int uffd;			/* TRACKER_UFFD, else -EBADF; owned */
	struct vmas carried;		/* TRACKER_SOFT_DIRTY: when bits were cleared last */
};

/* One process at one moment. */
struct tracker_view {
	struct address_space space;
	struct vmas vmas;
	int pagemap_fd;
};

/* Ranges on their way to the caller. */
struct tracker_batch {
	struct tracker_batch *before;	/* NULL, or what the caller must hear first */
	tracker_visit_fn visit;
	void *ctx;
	const struct tracker_process *process;
	struct tracker_range ranges[TRACKER_BATCH];
	size_t n;
	bool broken;			/* the caller's visitor has failed */
};

struct tracker_backend;

struct tracker {
	const struct cgroup *cgroup;
	const struct tracker_backend *backend;
	uint64_t guards;		/* PAGESCAN_GUARD if the kernel knows it */
	uint64_t rounds, last_generation;
	bool frozen;			/* in this call */
	struct tracked *tracked;	/* by pid */
	size_t n, size;
	struct tracker_batch batch;	/* of what was written */
	struct tracker_batch populated, carried;	/* in tracker_final */
	struct pagescan_region regions[TRACKER_BATCH];
};

/* follow: begins to follow one process, from now on; a failure is no harm, its
 * memory goes on to come whole. scan: hands out what was written since the last
 * scan of it, or everything when it is fresh or not followed, and begins anew;
 * when t->frozen is set it changes nothing in the process. forget: the end. */
struct tracker_backend {
	enum tracker_kind kind;
	uint64_t written;		/* PAGESCAN_WRITTEN if that tells of a followed process, else 0 */
	int (*probe)(struct error *err);
	int (*follow)(struct tracker *t, struct tracked *p, struct error *err);
	int (*scan)(struct tracker *t, struct tracked *p, struct tracker_view *view,
		    struct error *err);
	void (*forget)(struct tracked *p);
};

extern const struct tracker_backend tracker_uffd_backend, tracker_softdirty_backend;

/* Calls scan for each process of the container, with its mappings. */
typedef int (*tracker_scan_fn)(struct tracker *t, struct tracked *p, struct tracker_view *view,
			       struct error *err);
int tracker_each(struct tracker *t, tracker_scan_fn scan, struct error *err);

/* Empties a batch and says who hears of it. */
void tracker_batch_begin(struct tracker_batch *b, tracker_visit_fn visit, void *ctx);

/* Adds [start, end) to the batch, hands a full batch over. */
int tracker_batch_add(struct tracker_batch *b, uint64_t start, uint64_t end, struct error *err);
int tracker_batch_flush(struct tracker_batch *b, struct error *err);

static inline bool tracker_broken(const struct tracker *t)
{
	return t->batch.broken || t->populated.broken || t->carried.broken;
}

/* Adds all pages of [start, end) that the query finds. */
int tracker_scan_pages(struct tracker *t, const struct tracker_view *view,
		       const struct pagescan_query *query, uint64_t start, uint64_t end,
		       struct error *err);

/* What is populated and carries something, without arming. */
struct pagescan_query tracker_populated(const struct tracker *t);

/* Reads mappings and opens the pagemap of view->space, which is open: 1 when all
 * of it is that address space's, 0 when that has gone meanwhile. */
int tracker_view_read(struct tracker_view *view, struct error *err);
void tracker_view_closep(struct tracker_view *view);
