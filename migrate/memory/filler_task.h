/*
 * filler_task.h - inside of the filler: one address space that is being filled
 *
 * Faults are answered from the gaps: a page of the store, or a zero page where
 * there is none. That is right only if the gaps are as the process's mappings
 * are. The kernel tells each change as an event and lets nothing be filled
 * until it was read (UFFD_BUSY); so of what one read brings, all events are
 * followed before the first fault is answered, and a fault whose answer is
 * UFFD_BUSY is looked up afresh later.
 *
 * A fork copies the gaps: the child gets its own copy of each page. What is
 * filled once stays filled; only an event can take it away again, together with
 * its gap.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/base/error.h"
#include "migrate/memory/filler.h"
#include "migrate/memory/gaps.h"
#include "migrate/memory/store.h"

/* Slots share their memory's fate by the piece: it is given back when nobody
 * needs any slot of it. */
#define HOLD_SLOTS 64u

/* At most so many pages are taken out of the store at once: 256 KiB. */
#define FILLING_PAGES 64u

struct filling {
	const struct store *store;
	uint8_t room[FILLING_PAGES * STORE_PAGE];
	uint32_t *holds;		/* of each piece: pages that are needed */
	struct filler_report report;
};

void filling_hold(struct filling *f, uint64_t slot, uint64_t n_pages);

struct filler_task {
	pid_t pid;			/* in the container; a forked one: its origin's */
	bool forked;
	bool gone;
	int uffd;			/* owned */
	struct gaps gaps;
	uint64_t *faults;		/* that wait for an answer */
	size_t n_faults, faults_size;
};

/* Takes uffd (consumed). */
int filler_task_new(pid_t pid, int uffd_consume, struct filler_task **ret, struct error *err);
void filler_task_free(struct filler_task *task, struct filling *filling);

/* Reads what the userfaultfd has to say, follows it and answers. Children that
 * were born go to adopt, which owns them from then on. */
typedef int (*filler_adopt_fn)(void *ctx, struct filler_task *child_consume, struct error *err);
int filler_task_serve(struct filler_task *task, struct filling *filling, filler_adopt_fn adopt,
		      void *ctx, struct error *err);

/* Answers the faults that wait. */
int filler_task_answer(struct filler_task *task, struct filling *filling, struct error *err);

/* Fills the next piece. Returns 1 when that brought us on, 0 when it can't be
 * just now, or when nothing is missing. */
int filler_task_advance(struct filler_task *task, struct filling *filling, struct error *err);

static inline bool filler_task_done(const struct filler_task *task)
{
	return !gaps_first(&task->gaps) && task->n_faults == 0;
}
