/*
 * filler.h - the process that fills a restored container's memory from the store
 *
 * A child of whoever has the store (the process that received it); the
 * container's monitor gets its two ends (restore.h) and watches over it as a
 * guard (struct monitor_guard). It answers page faults of the restored
 * tasks first and copies the rest in the background, in pieces of 256 KiB, and
 * gives the store's memory back as it goes. It follows the tasks through fork,
 * mremap, munmap and madvise. When all is copied it exits with 0.
 *
 * The memory exists once, in the store, until it is copied. Closing the last
 * descriptor of a userfaultfd would let the container read zeroes where its
 * memory should be, so the filler sends a duplicate of each (also of forked
 * children's) into a socket that the monitor holds and never reads: there the
 * kernel keeps them when the filler dies. Then the monitor kills the container,
 * and closes the socket after that (filler_stop). Who started it holds the socket
 * too, and waits (filler_wait): it does the same, for both may have been killed.
 *
 *   struct filler filler = FILLER_EMPTY;
 *   r = filler_start(images_fd, folder_fd, store, &filler, err);
 *   store_free(store);
 *   r = criu_restore(... .lazy = true ...);	filler_stop if it fails
 *   ... filler.pidfd becomes readable ...
 *   r = filler_finish(&filler, &report, err);
 *   if (r < 0) { kill and reap the container; }
 *   filler_stop(&filler);
 *
 * When the monitor dies before CRIU has finished, the filler ends too; after
 * that it does its work to the end.
 *
 * The filler stays in the cgroups of its parent: it must not be frozen with the
 * container. When all is there it empties the socket itself, so that nobody
 * waits for the monitor.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "engine/base/error.h"
#include "migrate/memory/store.h"

/* -EBADF and 0 stand for what is not there. All owned. */
struct filler {
	pid_t pid;
	int pidfd;			/* readable when it has exited */
	int report_fd;			/* its last words */
	int uffds_fd;			/* the socket that keeps the duplicates */
};
#define FILLER_EMPTY { .pidfd = -EBADF, .report_fd = -EBADF, .uffds_fd = -EBADF }

struct filler_report {
	uint64_t pages;			/* copied, children's copies as well */
	uint64_t faults;		/* that were answered, zero pages as well */
	uint64_t forks;
	uint64_t restored_us;		/* from its start until CRIU was done */
	uint64_t filled_us;		/* from then until all was there */
};

/* Forks the filler, which listens for CRIU in images_fd (borrowed) before this
 * returns. The store is the one of the parent at this moment, sealed; the
 * parent can free it. folder_fd (borrowed): the container's, which has the mark MONITOR_FILLING
 * until all memory is in place; -EBADF: none. The caller is single-threaded. */
int filler_start(int images_fd, int folder_fd, const struct store *s, struct filler *ret, struct error *err);

/* Waits until the filler has exited. 0, and *ret (may be NULL): all memory is in
 * place and everything is closed. -EIO, or what else it says: memory is missing;
 * the container must be killed before filler_stop is called. */
int filler_finish(struct filler *f, struct filler_report *ret, struct error *err);

/* The same for one whose last words are the monitor's: waits, and reads nothing. What is
 * open stays open until filler_stop. */
int filler_wait(struct filler *f, struct error *err);

/* Kills and reaps it if it still lives, and closes everything; for a container
 * that is dead itself. Fine for an empty one. */
void filler_stop(struct filler *f);
