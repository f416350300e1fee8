/*
 * network.h - a container's network: namespace, veth pair, address, gate
 *
 * The engine owns the network namespace, so that CRIU sees it as external and
 * so that it can be there, closed, before a container is restored into it. A
 * container has one interface, eth0, whose host side is a port of the node's
 * bridge; MAC and address belong to the container and move with it.
 *
 * All through rtnetlink (libnl-3, libnl-route-3): rtnetlink(7), veth(4).
 * None of these functions leaves the caller in another network namespace.
 */
#pragma once

#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/base/error.h"
#include "engine/network/port.h"

#define NETWORK_CIDR_MAX (INET6_ADDRSTRLEN + 4)
#define NETWORK_NAME_MAX 64

struct network_endpoint {
	char network[NETWORK_NAME_MAX + 1];	/* named_network.h; empty: the node's own bridge */
	char bridge[IFNAMSIZ];		/* on the node; empty: only loopback */
	char host_ifname[IFNAMSIZ];	/* host side of the pair */
	uint8_t mac[6];			/* of eth0 in the container */
	char address[NETWORK_CIDR_MAX];	/* "10.88.0.7/16", IPv4 or IPv6 */
	char gateway[INET6_ADDRSTRLEN];	/* empty: no default route */
	char address2[NETWORK_CIDR_MAX];	/* of the other family; empty: it has none */
	char gateway2[INET6_ADDRSTRLEN];
	bool behind_node;		/* goes out with the node's address: nat.h */
	struct port ports[PORTS_MAX];	/* published */
	size_t n_ports;
};

/* OPEN passes frames; CLOSED drops them in both directions while the
 * interface inside stays up with its address and routes. */
enum network_gate { NETWORK_GATE_OPEN, NETWORK_GATE_CLOSED };

/* Makes the bridge if it is missing, brings it up, and adds address (CIDR) to
 * it when it is not there and not empty. An existing bridge keeps everything
 * else. -EEXIST when the name is taken by something that is no bridge. */
int network_bridge_ensure(const char *bridge, const char *address, struct error *err);

/* A new network namespace with loopback up; the fd keeps it alive. Inside,
 * net.ipv4.ping_group_range is "0 0" and net.ipv4.ip_unprivileged_port_start 0
 * as with podman; IPv6 interfaces take no addresses from routers and don't wait
 * for duplicate address detection (ip-sysctl.rst of the kernel). */
int network_namespace_create(int *ret_netns_fd, struct error *err);

/* The same for one that is there, with root's group (an id of the host) in place of 0. */
int network_namespace_set_up(int netns_fd, gid_t root_gid, struct error *err);

/* Makes the pair, puts one end into the namespace as eth0 with MAC, address
 * and default route, up, and the other onto the bridge with the gate as asked;
 * frames pass (or not) from the first on. eth0 has the bridge's MTU and the same
 * interface index on every node. Without a bridge nothing is done. On failure
 * nothing remains. -EEXIST when host_ifname is taken. */
int network_attach(int netns_fd, const struct network_endpoint *ep, enum network_gate gate,
		   struct error *err);

/* In place of a container that has left: a pair without addresses, whose gate is closed.
 * It goes with the last descriptor of *ret_netns_fd, or by network_detach. */
int network_stand_in(const struct network_endpoint *ep, int *ret_netns_fd, struct error *err);

/* Whatever the bridge hears, frames for this MAC go to this port of it, until the port
 * is gone. Static and sticky, as bridge(8) says; Linux 5.0. */
int network_bridge_pin(const char *host_ifname, const uint8_t mac[6], struct error *err);

/* A socket (netlink(7)) that is readable when an interface of this node came, changed or
 * went; what it says is for nobody to read. */
int network_changes_open(int *ret_fd, struct error *err);

/* Removes the pair by its host side; what is gone is no error. Takes 20 to 40
 * ms, most of them in the kernel's rcu_barrier when the link is gone already, so
 * tell whoever waits for the container first. */
int network_detach(const char *host_ifname, struct error *err);

/* The same when the container has ended and the last fd of its namespace is
 * closed: the namespace takes the pair along within a few milliseconds, while
 * removing a pair waits for an RCU grace period or two. When something else
 * keeps the namespace alive, the pair is removed. */
int network_release(const char *host_ifname, struct error *err);

/* Takes well under a millisecond; setting what is set already is no error. The
 * program of an armed gate (gate.h) is taken off, whoever put it there.
 * -ENODEV when there is no such interface. */
int network_gate_set(const char *host_ifname, enum network_gate gate, struct error *err);

/* Tells the neighbours where the address lives now: gratuitous ARP (RFC 5227
 * section 3, RFC 826) or unsolicited neighbour advertisement (RFC 4861
 * section 7.2.6) sent from eth0 inside the namespace. The socket that was needed for
 * it, -EBADF if there is none, is the caller's to close, which takes 10 ms; NULL: it
 * is closed. */
int network_announce(int netns_fd, const struct network_endpoint *ep, int *ret_sock,
		     struct error *err);

/* Makes the container's kernel ask anew for every neighbour. What it asked while
 * the gate was closed got lost, and it repeats a question only after a second
 * (retrans_time of arp(7)), in which its answers to clients would wait: call it
 * when the gate of a container that has arrived is open. IPv4 and IPv6. */
int network_neighbours_forget(int netns_fd, const struct network_endpoint *ep, struct error *err);

/* For a container that stood still behind its gate: opens it, makes its kernel ask
 * anew for every neighbour, and announces it, in case that others saw its MAC
 * elsewhere meanwhile. Fails only when the gate can't be opened. */
int network_resume(int netns_fd, const struct network_endpoint *ep, struct error *err);

/* True when an interface of this node has the address (prefix ignored). */
int network_address_is_local(const char *address, bool *ret, struct error *err);

/* The address is asked for on the bridge with ARP probes (RFC 5227 section
 * 2.1.1), wait_us at most: true when somebody answers. IPv6: by neighbour
 * solicitation. */
int network_address_answers(const char *bridge, const char *address, uint64_t wait_us,
			    bool *ret, struct error *err);

/* The n-th host address of the subnet, from 0: allocation is the caller's. range
 * is a CIDR within subnet (or empty: all of it). The gateway and the ends of
 * subnet and range (network, IPv4 broadcast) are skipped, except that blocks of
 * one or two addresses have no such ends; -ERANGE past the last. ret gets
 * subnet's prefix length. */
int network_address_nth(const char *subnet, const char *range, const char *gateway, uint32_t n,
			char ret[NETWORK_CIDR_MAX], struct error *err);

/* One of `of` equal parts of a subnet, from 0; `of` is a power of two. Of 1 it is the
 * subnet itself, as it should be written. -ERANGE when the parts would have less
 * than four addresses. */
int network_subnet_part(const char *subnet, uint32_t part, uint32_t of, char ret[NETWORK_CIDR_MAX],
			struct error *err);

/* True when an address may be of both. */
int network_subnets_overlap(const char *a, const char *b, bool *ret, struct error *err);

/* Checks that address ("10.88.0.9", a prefix length is ignored) is one that a
 * host of subnet can have; ret gets it with subnet's prefix length. -EINVAL
 * otherwise. */
int network_address_in(const char *subnet, const char *address, char ret[NETWORK_CIDR_MAX],
		       struct error *err);

/* A locally administered MAC from the container's address, the same on every
 * node: 02:67 and four bytes of the address (IPv6: of its last four). */
int network_mac_for(const char *address, uint8_t ret[6], struct error *err);
int network_mac_parse(const char *text, uint8_t ret[6], struct error *err);
void network_mac_format(const uint8_t mac[6], char ret[18]);
