/*
 * child.h - a piece of work in a process of its own
 *
 * For what changes a process for good: its namespaces, its ids. Not from a process with
 * threads. The child has all descriptors of the caller.
 */
#pragma once

#include "engine/base/error.h"

typedef int (*child_fn)(void *ctx, struct error *err);

/* Runs fn in a child and waits for its end. Its error is ours. */
int child_do(child_fn fn, void *ctx, struct error *err);
