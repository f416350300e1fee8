/*
 * target_lanes.h - further connections that memory comes over (proto/wire.h)
 *
 * A thread for each puts pages into the store, which takes them from several at
 * once. The process forks only when they have ended.
 */
#pragma once

#include "migrate/target.h"

/* As many as the offer says, beside the first one; they connect from now on. */
int target_lanes_begin(struct target *t, struct error *err);

/* Waits until each has as many trees as the first one has had. */
int target_lanes_settle(struct target *t, struct error *err);

/* The error of a thread that has failed, if there is one. */
int target_lanes_failed(const struct target *t, struct error *err);

/* No connection that is lost from now on is made anew. */
void target_lanes_freeze(struct target *t);

/* Ends the threads, whatever they do. */
void target_lanes_end(struct target *t);
