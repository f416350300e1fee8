/*
 * placement.h - where the containers of a named network are, and what follows on this node
 *
 * From the claims of all nodes (places.h) follow the forwarding and neighbour entries of
 * the network's bridge and vxlan device here, and the names in /etc/hosts of the
 * containers here. Whatever changes is done under the network's lock.
 */
#pragma once

#include "engine/container.h"
#include "engine/network/places.h"

/* Makes links and entries anew, and names. Serves after a reboot, too. */
int placement_refresh(const struct node *node, const char *network, struct error *err);

/* Tells this node's daemon that something has changed, if it listens; it must not wait.
 * The socket is of its network namespace and has no file: unix(7), abstract. The daemon
 * makes its end with placement_door; *ret_fd is the caller's, readable after a knock. */
void placement_knock(const struct node *node);
int placement_door(const struct node *node, int *ret_fd, struct error *err);

/* Could a container with this endpoint be on this node? -ENOENT: the network is not here;
 * -EINVAL: its subnets are others here; -EADDRINUSE names who has the address. created_us
 * tells the container that comes from another node; 0 when none does. */
int placement_check(const struct node *node, const struct network_endpoint *ep, uint64_t created_us,
		    struct error *err);

/* What this node claims now; the caller's to free. */
int placement_own(const struct node *node, const struct named_network *n, struct places *ret, struct error *err);

/* The same to be told, with a new sequence. */
int placement_say(const struct node *node, const struct named_network *n, struct places *ret, struct error *err);

/* What the node with this index has said. What is older than what it has said before is
 * no error, and changes nothing. */
int placement_hear(const struct node *node, const struct named_network *n, size_t member, const char *text,
		   size_t len, struct error *err);

/* All claims as they count. */
int placement_all(const struct node *node, const struct named_network *n, struct places *ret, struct error *err);

/* Durably: its addresses stay claimed until its new node claims them. For a container
 * that leaves; without a named network nothing is done. */
int placement_leave(const struct container *c, struct error *err);

/* The lines of /etc/hosts for all that live on the network; the caller's to free. */
int placement_hosts(const struct node *node, const char *network, char **ret_text, struct error *err);
