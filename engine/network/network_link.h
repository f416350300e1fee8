/*
 * network_link.h - what bridges and veth pairs have in common
 *
 * Private to the network*.c files.
 */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/base/error.h"

struct network_batch;
struct network_cidr;

struct network_link {
	unsigned index, flags;	/* IFF_... */
	uint32_t mtu;
	bool is_bridge;
};

/* Runs the batch with this request alone. -ENODEV when it isn't there. */
int network_link_get(struct network_batch *batch, const char *ifname, struct network_link *ret,
		     struct error *err);

/* Adds the request that brings a link up. With index 0 it must get the link's
 * name as attribute. */
void network_link_add_up(struct network_batch *batch, unsigned index, const char *what);

/* Adds the request for an address that is usable at once: without duplicate
 * address detection, which takes a second. */
void network_link_add_address(struct network_batch *batch, unsigned index,
			      const struct network_cidr *cidr);

/* Adds the request for a bridge's entry: frames for the MAC go to this port of it. Pinned, for
 * as long as the port is there, whatever the bridge hears; else until it hears the MAC elsewhere. */
void network_link_add_entry(struct network_batch *batch, unsigned port, const uint8_t mac[6], bool pinned);

/* -EINVAL when no interface can have that name; what is the word for it. */
int network_link_check_name(const char *what, const char name[IFNAMSIZ], struct error *err);
