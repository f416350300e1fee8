/*
 * named_network.h - a network that has a name: its record, and its links on this node
 *
 *   STATE/networks/NAME/
 *     network.json   what it is; the same on every node, but for "index". Durable
 *     places-K.json  what the node with index K has said last: places.h. Durable
 *     away-NAME.json a container that has left, until its new node claims it. Durable
 *     lock           flock(2): one change at a time
 *
 * Driver bridge: a segment of this node alone. Driver vxlan: one segment over all
 * its nodes (RFC 7348): on each a bridge with a vxlan device as port, which learns
 * nothing and floods nothing. Where a MAC is, and which MAC an address has, is said
 * by the nodes' daemons, and written into the forwarding and the neighbour tables
 * (bridge(8), neigh_suppress), so that nobody has to ask.
 *
 * No address is given out twice: each node gives out those of its own part of the
 * subnets, by its index.
 */
#pragma once

#include <net/if.h>

#include "engine/network/network.h"
#include "engine/node.h"

#define NAMED_NETWORK_MEMBERS_MAX 64
#define NAMED_NETWORK_JSON_LIMIT 65536

enum named_network_driver { NAMED_NETWORK_BRIDGE, NAMED_NETWORK_VXLAN };

struct named_network_member {
	char address[80];		/* "10.88.0.1", "[fd00::1]:5000": where its daemon listens */
	char id[NODE_ID_SIZE];
};

struct named_network {
	char name[NETWORK_NAME_MAX + 1];
	enum named_network_driver driver;
	char subnets[2][NETWORK_CIDR_MAX];	/* of two families; the second may be empty */
	uint32_t vni, mtu;		/* mtu 0: the kernel's default */
	struct named_network_member members[NAMED_NETWORK_MEMBERS_MAX];
	size_t n_members;		/* bridge: 0 */
	size_t index;			/* this node's */
};

/* As JSON, and back. -EINVAL names what is wrong. Everything is checked: it may come
 * from a peer. *ret_text is the caller's to free. */
int named_network_parse(const char *text, size_t len, struct named_network *ret, struct error *err);
int named_network_format(const struct named_network *n, char **ret_text, struct error *err);

const char *named_network_driver_name(enum named_network_driver driver);

/* Equal but for the index. */
bool named_network_same(const struct named_network *a, const struct named_network *b);

/* -ENOENT: there is none, and what to do. */
int named_network_load(const struct node *node, const char *name, struct named_network *ret, struct error *err);

/* Makes it; call it under node_lock. -EEXIST when the name is taken, -EADDRINUSE when
 * its subnets overlap another network's here or the node's own. */
int named_network_create(const struct node *node, const struct named_network *n, struct error *err);

/* With its links; call it under node_lock. -EBUSY names the containers that use it. */
int named_network_remove(const struct node *node, const char *name, struct error *err);

/* Names, sorted; fd_list_free. */
int named_network_list(const struct node *node, char ***ret, size_t *ret_n, struct error *err);

/* The first 10.89.K.0/24 that nothing on this node overlaps. */
int named_network_free_subnet(const struct node *node, char ret[NETWORK_CIDR_MAX], struct error *err);

/* Its folder, and the lock on it; both the caller's. -ENOENT: it has been removed. */
int named_network_open(const struct node *node, const char *name, int *ret_dir, struct error *err);
int named_network_lock(int dir_fd, int *ret_lock, struct error *err);

/* The first host's address of subnet i, which every node's bridge has. */
int named_network_gateway(const struct named_network *n, size_t i, char ret[NETWORK_CIDR_MAX], struct error *err);

/* The address in the form "10.70.0.9/16" if a container can have it there: -EINVAL when it is one of
 * no host in its subnets, -EADDRINUSE when it is the gateway's. */
int named_network_host(const struct named_network *n, const char *address, char ret[NETWORK_CIDR_MAX],
		       struct error *err);

/* The part of subnet i that this node gives out. */
int named_network_range(const struct named_network *n, size_t i, char ret[NETWORK_CIDR_MAX], struct error *err);

/* The names of its links: "gb" and "gx", and 12 hex digits that depend on the state
 * directory and the network's name. */
void named_network_bridge(const struct node *node, const char *name, char ret[IFNAMSIZ]);
void named_network_vxlan(const struct node *node, const char *name, char ret[IFNAMSIZ]);

/* Makes what is missing of its links. */
int named_network_links_up(const struct node *node, const struct named_network *n, struct error *err);

/* An address of this node's part for a container, its gateways and its MAC. wanted
 * ("10.70.0.9"; NULL: the lowest that is free) is one of the first subnet. Call it, and
 * create the container, under node_lock. -EADDRINUSE names who has it. */
int named_network_choose(const struct node *node, const struct named_network *n, const char *wanted,
			 struct network_endpoint *ep, struct error *err);
