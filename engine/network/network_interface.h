/*
 * network_interface.h - addresses and routes of an interface in a container
 *
 * By ioctl(2), not by rtnetlink: a netlink socket is freed by RCU, so it keeps
 * its namespace for some 10 ms after it was closed, and with that the
 * interfaces of a container that ends sooner. Private to the network*.c files.
 *
 * netdevice(7), rtnetlink(7), ipv6(7).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "engine/network/network_address.h"

struct network_face {
	struct network_cidr address, gateway;
	bool has_gateway;
};

/* Brings it up with these addresses, of a family each, and their default routes.
 * -ENETUNREACH when a gateway is not within its address's prefix. */
int network_interface_configure(int netns_fd, const char *ifname, const struct network_face *faces, size_t n,
				struct error *err);
