/*
 * address.h - giving out container addresses on a node
 */
#pragma once

#include "engine/node.h"
#include "engine/spec.h"

/* Fills endpoint's address, gateway and MAC: the wanted address ("10.88.0.9",
 * with or without prefix length; must lie in the node's subnet), or the lowest
 * of the node's range that no container here has. One whose container has left this
 * node (departed.h) is the last to be given out, and only when nobody answers for it on
 * the bridge, which is waited for. -EADDRINUSE names who has it. Call it, and create the container, under node_lock. */
int address_choose(const struct node *node, const char *wanted, struct network_endpoint *ep,
		   struct error *err);

/* 0, or -EADDRINUSE naming the container, interface or neighbour that has the
 * address. wait_us: how long a neighbour may take to answer; 0: not asked. */
int address_check_free(const struct node *node, const char *address, uint64_t wait_us,
		       struct error *err);
