/*
 * network_vxlan.h - a vxlan device under a bridge, and where MACs are behind it
 *
 * The device learns nothing, its port of the bridge floods nothing and answers for
 * neighbours that are known (vxlan.rst of the kernel, bridge(8)): what is not told
 * here is nowhere. All through rtnetlink.
 */
#pragma once

#include <stdint.h>

#include "engine/network/network.h"

/* An IP address as bytes. */
struct network_place_host {
	int family;
	uint8_t bytes[16];
	unsigned size;
};

/* Of "10.0.0.1", "10.0.0.1:5000", "fd00::1", "[fd00::1]:5000"; no names. */
int network_place_host(const char *text, struct network_place_host *ret, struct error *err);

struct network_vxlan {
	const char *ifname, *bridge;
	uint32_t vni, mtu;
	const char *local;		/* as for network_place_host */
};

/* Makes it when it is missing, and puts it onto the bridge. */
int network_vxlan_ensure(const struct network_vxlan *v, struct error *err);

/* Every port's, too, from now on. */
int network_bridge_set_mtu(const char *bridge, uint32_t mtu, struct error *err);

struct network_remote {
	const char *vxlan, *bridge;	/* interfaces */
	const uint8_t *mac;
	const char *addresses[2];	/* CIDRs; "" is none */
	const char *node;		/* as for network_place_host */
};

/* Whatever was said before of this MAC. Without with_port the bridge's own entry, which
 * says that it is behind the vxlan device at all, is left as it is. */
int network_remote_set(const struct network_remote *r, bool with_port, struct error *err);

/* What is gone is no error; node is not looked at. */
int network_remote_remove(const struct network_remote *r, struct error *err);
