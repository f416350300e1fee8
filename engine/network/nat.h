/*
 * nat.h - a container's published ports, and its way out behind the node's address
 *
 * All is in one nftables table of the node's network namespace, "inet godwit",
 * which is there while a container needs it:
 *
 *   map ports4, ports6        protocol . port of the node : address . port of a container
 *   map ports_at4, ports_at6  the same for one address of the node
 *   set inside4, inside6      addresses that go out behind the node's own
 *   set subnets4, subnets6    theirs, within which they don't
 *   set bridges               that lead to containers
 *
 * What comes for a published port, from other machines or from the node itself
 * (not by way of 127.0.0.0/8), is sent on to the container, which sees the bridge's
 * address as its peer: so the answers come back whatever its routes are. Addresses
 * go out behind the node's when the container's default route is the node's bridge.
 * Forwarding of the address family is switched on (ip-sysctl.rst of the kernel).
 *
 * Ports belong to the container: after a move they are the new node's. Connections
 * through the old node's end, as that node's address was their peer. nft(8).
 */
#pragma once

#include "engine/network/network.h"

/* -EADDRINUSE names a port that another container here has published. On failure
 * nothing of this endpoint remains. Does nothing when there is nothing to do. */
int nat_attach(const struct network_endpoint *ep, struct error *err);

/* What is gone is no error; what is another's stays. */
int nat_detach(const struct network_endpoint *ep, struct error *err);

/* -EADDRINUSE when a port of ep is published by another container here. */
int nat_check_free(const struct network_endpoint *ep, struct error *err);
