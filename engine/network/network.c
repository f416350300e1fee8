#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <string.h>
#include <sys/socket.h>

#include "engine/network/network.h"
#include "engine/network/network_address.h"
#include "engine/network/network_batch.h"
#include "engine/network/network_gate.h"
#include "engine/network/network_interface.h"
#include "engine/network/network_link.h"
#include "engine/network/network_netns.h"
#include "engine/network/network_watch.h"

/* The index of eth0 in every container: the same on all nodes, because sockets
 * bound to the interface are restored by index, and above those that a fresh
 * namespace may give to lo and to the kernel's fallback tunnels. */
#define ETH0_INDEX 16
#define ETH0 "eth0"
#define READY_WAIT_US 100000
#define RELEASE_WAIT_US 50000

/* What is to be attached, read and looked up. */
struct plan {
	const struct network_endpoint *ep;
	struct network_face faces[2];	/* of two families */
	size_t n_faces;
	struct network_link bridge;
};

/* One message makes both ends, each at its place. */
static int create_pair(struct network_batch *batch, int netns_fd, const struct network_endpoint *ep,
		       uint32_t mtu, struct error *err)
{
	struct ifinfomsg eth0 = { .ifi_family = AF_UNSPEC, .ifi_index = ETH0_INDEX };
	struct ifinfomsg host = { .ifi_family = AF_UNSPEC };
	CLEANUP(fd_closep) int node_fd = -EBADF;
	uint8_t host_mac[6];
	int r;

	r = network_netns_current(&node_fd, err);
	if (r < 0)
		return r;
	memcpy(host_mac, ep->mac, sizeof(host_mac));
	host_mac[0] = 0xfe;	/* so high that no bridge takes it for its own */
	network_batch_add(batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, "make the veth pair",
			  &eth0, sizeof(eth0));
	network_batch_put_string(batch, IFLA_IFNAME, ETH0);
	network_batch_put(batch, IFLA_ADDRESS, ep->mac, sizeof(ep->mac));
	network_batch_put_u32(batch, IFLA_MTU, mtu);
	network_batch_put_u32(batch, IFLA_NET_NS_FD, (uint32_t)netns_fd);
	network_batch_nest(batch, IFLA_LINKINFO);
	network_batch_put_string(batch, IFLA_INFO_KIND, "veth");
	network_batch_nest(batch, IFLA_INFO_DATA);
	network_batch_nest(batch, VETH_INFO_PEER);
	network_batch_put_raw(batch, &host, sizeof(host));
	network_batch_put_string(batch, IFLA_IFNAME, ep->host_ifname);
	network_batch_put(batch, IFLA_ADDRESS, host_mac, sizeof(host_mac));
	network_batch_put_u32(batch, IFLA_MTU, mtu);
	network_batch_put_u32(batch, IFLA_NET_NS_FD, (uint32_t)node_fd);
	for (int i = 0; i < 3; i++)
		network_batch_nest_end(batch);
	return network_batch_run(batch, NULL, NULL, err);
}

/* From the node's side, for the sake of network_interface.h. Old kernels look there whether
 * the index is taken: then from the container's. */
static int make_pair(struct network_batch *node, int netns_fd, const struct network_endpoint *ep, uint32_t mtu,
		     struct error *err)
{
	CLEANUP(network_batch_freep) struct network_batch *inside = NULL;
	int r = create_pair(node, netns_fd, ep, mtu, err);

	if (r != -EEXIST || if_nametoindex(ep->host_ifname))
		return r;
	r = network_batch_open(netns_fd, &inside, err);
	if (r == 0)
		r = create_pair(inside, netns_fd, ep, mtu, err);
	return r == -EEXIST ? error_set(err, EEXIST, "the network namespace has an " ETH0 " already") : r;
}

/* A port that has no address of its own, so sends nothing of its own. */
static int join_bridge(struct network_batch *batch, const struct network_endpoint *ep,
		       const struct network_link *bridge, struct error *err)
{
	network_gate_add_place(batch, if_nametoindex(ep->host_ifname));
	network_link_add_up(batch, 0, "put it onto the bridge");
	network_batch_put_string(batch, IFLA_IFNAME, ep->host_ifname);
	network_batch_put_u32(batch, IFLA_MASTER, bridge->index);
	network_batch_nest(batch, IFLA_AF_SPEC);
	network_batch_nest(batch, AF_INET6);
	network_batch_put_u8(batch, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	network_batch_nest_end(batch);
	network_batch_nest_end(batch);
	return network_batch_run(batch, NULL, NULL, err);
}

/* An IPv6 address is in use (route, multicast group) when the kernel's worker
 * says so, a moment after it was added. */
static bool is_ready(const struct nlmsghdr *message, const void *data)
{
	const struct network_cidr *address = data;
	const struct ifaddrmsg *ifa;
	const void *attrs, *value;
	size_t len;

	if (!message || message->nlmsg_type != RTM_NEWADDR)
		return false;
	ifa = network_batch_header(message, sizeof(*ifa));
	if (!ifa || ifa->ifa_index != ETH0_INDEX || (ifa->ifa_flags & IFA_F_TENTATIVE))
		return false;
	attrs = network_batch_attrs(message, sizeof(*ifa), &len);
	value = network_batch_find(attrs, len, IFA_ADDRESS, &len);
	return value && len == sizeof(address->bytes) && memcmp(value, address->bytes, len) == 0;
}

static const struct network_cidr *ipv6_of(const struct plan *plan)
{
	for (size_t i = 0; i < plan->n_faces; i++)
		if (plan->faces[i].address.family == AF_INET6)
			return &plan->faces[i].address;
	return NULL;
}

static int configure_eth0(int netns_fd, const struct plan *plan, struct error *err)
{
	const struct network_cidr *ipv6 = ipv6_of(plan);
	CLEANUP(fd_closep) int watch = -EBADF;
	int r = 0;

	if (ipv6)
		r = network_watch_open(netns_fd, RTMGRP_IPV6_IFADDR, &watch, err);
	if (r < 0)
		return r;
	r = network_interface_configure(netns_fd, ETH0, plan->faces, plan->n_faces, err);
	if (r == 0 && watch >= 0)
		r = network_watch_until(watch, READY_WAIT_US, is_ready, ipv6, err);
	return r < 0 ? r : 0;	/* when the kernel is late the address is good all the same */
}

/* One that had the MAC here may have left a moment ago, and what stands in for it pinned it. EPERM:
 * the port does not learn yet. */
static int claim_mac(struct network_batch *node, const struct network_endpoint *ep, struct error *err)
{
	network_link_add_entry(node, if_nametoindex(ep->host_ifname), ep->mac, false);
	network_batch_tolerate(node, EPERM);
	return network_batch_run(node, NULL, NULL, err);
}

/* The gate goes in before eth0 comes up, so that no frame slips through. */
static int connect_pair(struct network_batch *node, int netns_fd, const struct plan *plan, enum network_gate gate,
			struct error *err)
{
	struct network_link link;
	int r;

	r = join_bridge(node, plan->ep, &plan->bridge, err);
	if (r == 0 && gate == NETWORK_GATE_CLOSED)
		r = network_gate_set(plan->ep->host_ifname, gate, err);
	if (r == 0)
		r = configure_eth0(netns_fd, plan, err);
	/* Asking for a link makes the kernel finish its carrier work first. Until
	 * then the port is not forwarding, and the bridge that gets its first port
	 * drops what the node sends. */
	if (r == 0)
		r = network_link_get(node, plan->ep->host_ifname, &link, err);
	if (r == 0)
		r = network_link_get(node, plan->ep->bridge, &link, err);
	if (r == 0 && gate == NETWORK_GATE_OPEN)
		r = claim_mac(node, plan->ep, err);
	return r;
}

static int add_face(struct plan *plan, const char *address, const char *gateway, struct error *err)
{
	struct network_face *face = &plan->faces[plan->n_faces++];

	face->has_gateway = gateway[0] != '\0';
	if (network_cidr_parse(address, &face->address, err) < 0)
		return -err->code;
	if (!face->has_gateway)
		return 0;
	if (network_cidr_parse(gateway, &face->gateway, err) < 0)
		return error_wrap(err, "gateway");
	if (face->gateway.family != face->address.family)
		return error_set(err, EINVAL, "gateway %s and address %s are of different kinds", gateway, address);
	return 0;
}

static int parse_endpoint(const struct network_endpoint *ep, struct plan *plan,
			  struct error *err)
{
	if (network_link_check_name("bridge", ep->bridge, err) < 0 ||
	    network_link_check_name("interface", ep->host_ifname, err) < 0 ||
	    add_face(plan, ep->address, ep->gateway, err) < 0)
		return -err->code;
	return ep->address2[0] ? add_face(plan, ep->address2, ep->gateway2, err) : 0;
}

static int attach(int netns_fd, struct plan *plan, enum network_gate gate, struct error *err)
{
	CLEANUP(network_batch_freep) struct network_batch *node = NULL;
	struct error undo;
	int r;

	r = parse_endpoint(plan->ep, plan, err);
	if (r == 0)
		r = network_batch_open(-EBADF, &node, err);
	if (r < 0)
		return r;
	r = network_link_get(node, plan->ep->bridge, &plan->bridge, err);
	if (r < 0)
		return error_wrap(err, "bridge %s", plan->ep->bridge);
	r = make_pair(node, netns_fd, plan->ep, plan->bridge.mtu, err);
	if (r < 0)
		return r;
	r = connect_pair(node, netns_fd, plan, gate, err);
	if (r < 0)
		(void)network_detach(plan->ep->host_ifname, &undo);
	return r;
}

int network_attach(int netns_fd, const struct network_endpoint *ep, enum network_gate gate,
		   struct error *err)
{
	struct plan plan = { .ep = ep };
	int r;

	if (ep->bridge[0] == '\0')
		return 0;
	r = attach(netns_fd, &plan, gate, err);
	return r < 0 ? error_wrap(err, "attach %.*s", IFNAMSIZ, ep->host_ifname) : 0;
}

/* With another MAC, so that nobody can mistake it for the container. */
static int stand_in(int netns_fd, struct network_endpoint ep, struct error *err)
{
	CLEANUP(network_batch_freep) struct network_batch *node = NULL;
	struct network_link bridge;

	ep.mac[1] ^= 1;
	if (network_batch_open(-EBADF, &node, err) < 0 || network_link_get(node, ep.bridge, &bridge, err) < 0 ||
	    make_pair(node, netns_fd, &ep, bridge.mtu, err) < 0 || join_bridge(node, &ep, &bridge, err) < 0 ||
	    network_gate_set(ep.host_ifname, NETWORK_GATE_CLOSED, err) < 0)
		return -err->code;
	return network_interface_configure(netns_fd, ETH0, NULL, 0, err);
}

int network_stand_in(const struct network_endpoint *ep, int *ret_netns_fd, struct error *err)
{
	CLEANUP(fd_closep) int netns_fd = -EBADF;
	int r;

	r = network_namespace_create(&netns_fd, err);
	if (r == 0)
		r = stand_in(netns_fd, *ep, err);
	if (r < 0)
		return error_wrap(err, "attach %.*s", IFNAMSIZ, ep->host_ifname);
	*ret_netns_fd = TAKE_FD(netns_fd);
	return 0;
}

int network_changes_open(int *ret_fd, struct error *err)
{
	return network_watch_open(-EBADF, RTMGRP_LINK, ret_fd, err);
}

int network_detach(const char *host_ifname, struct error *err)
{
	CLEANUP(network_batch_freep) struct network_batch *batch = NULL;
	struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC };
	int r;

	r = network_link_check_name("interface", host_ifname, err);
	if (r == 0)
		r = network_batch_open(-EBADF, &batch, err);
	if (r < 0)
		return r;
	network_batch_add(batch, RTM_DELLINK, 0, "remove the interface", &ifi, sizeof(ifi));
	network_batch_put_string(batch, IFLA_IFNAME, host_ifname);
	network_batch_tolerate(batch, ENODEV);
	r = network_batch_run(batch, NULL, NULL, err);
	return r < 0 ? error_wrap(err, "detach %s", host_ifname) : 0;
}

static bool link_is_gone(const struct nlmsghdr *message, const void *name)
{
	return (!message || message->nlmsg_type == RTM_DELLINK) && if_nametoindex(name) == 0;
}

int network_release(const char *host_ifname, struct error *err)
{
	CLEANUP(fd_closep) int watch = -EBADF;
	struct error ignored;

	if (network_watch_open(-EBADF, RTMGRP_LINK, &watch, &ignored) == 0 &&
	    network_watch_until(watch, RELEASE_WAIT_US, link_is_gone, host_ifname, &ignored) == 0)
		return 0;
	return network_detach(host_ifname, err);
}

int network_resume(int netns_fd, const struct network_endpoint *ep, struct error *err)
{
	struct error ignored;
	int sock = -EBADF;

	if (!ep->bridge[0])
		return 0;
	if (network_gate_set(ep->host_ifname, NETWORK_GATE_OPEN, err) < 0)
		return -err->code;
	(void)network_neighbours_forget(netns_fd, ep, &ignored);
	if (network_announce(netns_fd, ep, &sock, &ignored) == 0)
		fd_close(&sock);
	return 0;
}
