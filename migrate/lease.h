/*
 * lease.h - freezing a container through its monitor, for a checkpoint
 *
 * The lease is the open connection: when this process ends without lease_thaw,
 * the monitor thaws the container, unless a decision is on disk (handover.h).
 */
#pragma once

#include <signal.h>

#include "engine/base/cleanup.h"
#include "engine/container.h"

struct lease_hold {
	int fd;				/* to the monitor; -EBADF: none */
	const struct container *container;	/* borrowed */
	bool frozen;
	bool was_paused;		/* before */
	uint64_t frozen_us;		/* clock_us when the freeze was complete */
	uint64_t frozen_real_us;
	uint64_t pipe_inodes[3];
};
#define LEASE_HOLD_EMPTY { .fd = -EBADF }

/* Connects; nothing is frozen yet. */
int lease_open(const struct container *c, struct lease_hold *ret, struct error *err);

/* Waits until nothing fills the container's memory in any more after a move.
 * A signal handler that sets *cancelled (may be NULL) ends it with -ECANCELED. */
int lease_wait_settled(struct lease_hold *l, const volatile sig_atomic_t *cancelled, struct error *err);

/* The lease lasts at least until this process has ended (CRIU's). */
int lease_set_tracer(struct lease_hold *l, pid_t tracer, struct error *err);

/* Closes the gate (unless the caller holds one that it has armed), freezes, and
 * drains the container's pipes. */
int lease_freeze(struct lease_hold *l, bool own_gate, struct error *err);

/* When the monitor was killed meanwhile, the caller thaws in its place. */
int lease_thaw(struct lease_hold *l, struct error *err);

/* For a container that has no monitor any more. */
int lease_thaw_without_monitor(const struct container *c, bool was_paused, struct error *err);

/* What else its caller does while it waits: whenever fd is readable. */
struct lease_wait {
	int fd;
	void (*ready)(void *ctx);
	void *ctx;
};

/* The original has moved: killed, its folder removed. Waits until it is gone. */
int lease_discard(struct lease_hold *l, const struct lease_wait *wait, struct error *err);

/* Closes the connection. */
void lease_closep(struct lease_hold *l);
