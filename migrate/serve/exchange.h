/*
 * exchange.h - what nodes tell each other about named networks
 *
 * NETWORK makes a network on a peer, PLACES tells it what this node claims; the answer is
 * what the peer claims (wire.h). A peer is who the network's record says, by its id.
 */
#pragma once

#include "engine/network/named_network.h"
#include "migrate/channel/channel.h"

/* ---- whoever makes a network ---- */

struct exchange_peers {
	struct channel *channels[NAMED_NETWORK_MEMBERS_MAX];
	size_t n;
};
void exchange_peers_closep(struct exchange_peers *p);

/* Connects to all, and fills n's members: this node, which is index 0, and them; and its
 * MTU, when it is 0: what a vxlan device leaves of that to the peers. own_address: where
 * peers reach this node; NULL: by which it has reached the first of them. */
int exchange_meet(const struct node *node, const char *const *hosts, size_t n_hosts, const char *own_address,
		  struct exchange_peers *peers, struct named_network *n, struct error *err);

/* Makes it on all of them, or on none. */
int exchange_make(struct exchange_peers *peers, const struct named_network *n, struct error *err);
void exchange_unmake(struct exchange_peers *peers, const struct named_network *n);

/* Removes it on all its nodes, this one last, or on none: -EBUSY when a node has a container on
 * it, with both; -EHOSTUNREACH and the like when a node can't be asked. */
int exchange_remove(const struct node *node, const struct named_network *n, struct error *err);

/* ---- daemons ---- */

/* Tells the member what this node claims, and hears what it claims. */
int exchange_places(const struct node *node, const struct named_network *n, size_t member, struct error *err);

/* The other side: m is the first that the peer has said. Until it hangs up. */
int exchange_answer(const struct node *node, struct channel *ch, const struct channel_peer *peer,
		    const struct message *m, struct error *err);
