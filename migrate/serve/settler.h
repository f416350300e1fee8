/*
 * settler.h - a process of serve that settles what is open on its node
 *
 * It asks the targets of containers that are in doubt, each again after a while
 * that doubles up to SETTLER_AGAIN_MAX_US, tells targets what they may forget, and
 * sweeps up after processes of arrivals that died. All of it is in the state
 * directory: it may be killed and started again at any moment.
 */
#pragma once

#include <stdint.h>

#include "engine/node.h"

#define SETTLER_LOOK_US 1000000u	/* a look at the state directory */
#define SETTLER_AGAIN_US 1000000u	/* a peer that could not be asked: first, */
#define SETTLER_AGAIN_MAX_US 60000000u	/* and in the end */

struct settler_options {
	void (*log)(void *ctx, const char *line);	/* what was settled; a new reason why not */
	void *ctx;
};

/* Until its parent dies. */
_Noreturn void settler_run(const struct node *node, const struct settler_options *options);
