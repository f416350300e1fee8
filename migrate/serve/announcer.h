/*
 * announcer.h - a process of serve that tells peers which containers are here
 *
 * It looks at the node's named networks when it begins, when somebody knocks
 * (placement_knock), when a link changes, and now and then; when what this node claims
 * has changed it tells all other nodes of that network, each by a process of its own, and
 * hears what they claim. A node that can't be reached is told later.
 */
#pragma once

#include "migrate/serve/settler.h"

#define ANNOUNCER_LOOK_US 1000000u	/* at least so often */
#define ANNOUNCER_AGAIN_US 500000u	/* a peer that could not be told: first, */
#define ANNOUNCER_AGAIN_MAX_US 8000000u	/* and in the end */

/* Until its parent dies. */
_Noreturn void announcer_run(const struct node *node, const struct settler_options *options);
