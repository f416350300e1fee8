#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "engine/base/fd.h"
#include "engine/network.h"
#include "engine/network_address.h"
#include "engine/network_batch.h"
#include "engine/network_netns.h"

/* The index of eth0 in every container: the same on all nodes, because sockets
 * bound to the interface are restored by index, and above those that a fresh
 * namespace may give to lo and to the kernel's fallback tunnels. */
#define ETH0_INDEX 16
#define ETH0 "eth0"

/* What a link says of itself. */
struct link {
	unsigned index, flags;
	uint32_t mtu;
	bool is_bridge;
};

/* What is to be attached, read and looked up. */
struct plan {
	const struct network_endpoint *ep;
	struct network_cidr address, gateway;
	bool has_gateway;
	struct link bridge;
};

static bool text_is(const struct rtattr *attr, const char *text)
{
	return (size_t)RTA_PAYLOAD(attr) == strlen(text) + 1 &&
	       memcmp(RTA_DATA(attr), text, strlen(text) + 1) == 0;
}

static bool info_is_bridge(struct rtattr *info)
{
	struct rtattr *attr = RTA_DATA(info);
	size_t left = RTA_PAYLOAD(info);

	for (; RTA_OK(attr, left); attr = RTA_NEXT(attr, left)) {
		if ((attr->rta_type & NLA_TYPE_MASK) == IFLA_INFO_KIND)
			return text_is(attr, "bridge");
	}
	return false;
}

static void read_link(const struct nlmsghdr *answer, void *data)
{
	const struct ifinfomsg *ifi = NLMSG_DATA(answer);
	struct link *link = data;
	struct rtattr *attr;
	size_t left;

	if (answer->nlmsg_type != RTM_NEWLINK || answer->nlmsg_len < NLMSG_LENGTH(sizeof(*ifi)))
		return;
	link->index = (unsigned)ifi->ifi_index;
	link->flags = ifi->ifi_flags;
	attr = IFLA_RTA(ifi);
	left = IFLA_PAYLOAD(answer);
	for (; RTA_OK(attr, left); attr = RTA_NEXT(attr, left)) {
		unsigned type = attr->rta_type & NLA_TYPE_MASK;

		if (type == IFLA_MTU && RTA_PAYLOAD(attr) == sizeof(link->mtu))
			memcpy(&link->mtu, RTA_DATA(attr), sizeof(link->mtu));
		else if (type == IFLA_LINKINFO)
			link->is_bridge = info_is_bridge(attr);
	}
}

/* -ENODEV when it isn't there. */
static int get_link(struct network_batch *batch, const char *ifname, struct link *ret,
		    struct error *err)
{
	struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC };
	struct link link = { 0 };
	int r;

	network_batch_add(batch, RTM_GETLINK, 0, "look it up", &ifi, sizeof(ifi));
	network_batch_put_string(batch, IFLA_IFNAME, ifname);
	network_batch_put_u32(batch, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	r = network_batch_run(batch, read_link, &link, err);
	if (r < 0)
		return r;
	*ret = link;
	return 0;
}

/* The kernel would give the bridge the lowest MAC of its ports, a new one with
 * each container; one that is set stays. */
static int random_mac(uint8_t ret[6], struct error *err)
{
	if (getrandom(ret, 6, 0) != 6)
		return error_set(err, errno, "get random bytes: %s", strerror(errno));
	ret[0] = (uint8_t)((ret[0] & 0xfc) | 0x02);
	return 0;
}

static int create_bridge(struct network_batch *batch, const char *bridge, struct error *err)
{
	struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC, .ifi_flags = IFF_UP,
				 .ifi_change = IFF_UP };
	uint8_t mac[6];
	int r;

	r = random_mac(mac, err);
	if (r < 0)
		return r;
	network_batch_add(batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, "make the bridge", &ifi,
			  sizeof(ifi));
	network_batch_put_string(batch, IFLA_IFNAME, bridge);
	network_batch_put(batch, IFLA_ADDRESS, mac, sizeof(mac));
	network_batch_nest(batch, IFLA_LINKINFO);
	network_batch_put_string(batch, IFLA_INFO_KIND, "bridge");
	network_batch_nest(batch, IFLA_INFO_DATA);
	network_batch_put_u32(batch, IFLA_BR_STP_STATE, 0);
	network_batch_nest_end(batch);
	network_batch_nest_end(batch);
	network_batch_tolerate(batch, EEXIST);	/* another command was quicker */
	return network_batch_run(batch, NULL, NULL, err);
}

static void add_up(struct network_batch *batch, unsigned index, const char *what)
{
	struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC, .ifi_index = (int)index,
				 .ifi_flags = IFF_UP, .ifi_change = IFF_UP };

	network_batch_add(batch, RTM_NEWLINK, 0, what, &ifi, sizeof(ifi));
}

/* Usable at once: no duplicate address detection, which takes a second. */
static void add_address(struct network_batch *batch, unsigned index,
			const struct network_cidr *cidr)
{
	struct ifaddrmsg ifa = { .ifa_family = (uint8_t)cidr->family,
				 .ifa_prefixlen = (uint8_t)cidr->prefix, .ifa_index = index };

	network_batch_add(batch, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, "add the address", &ifa,
			  sizeof(ifa));
	network_batch_put(batch, IFA_LOCAL, cidr->bytes, network_cidr_size(cidr));
	network_batch_put(batch, IFA_ADDRESS, cidr->bytes, network_cidr_size(cidr));
	if (cidr->family == AF_INET6)
		network_batch_put_u32(batch, IFA_FLAGS, IFA_F_NODAD);
}

static int check_ifname(const char *what, const char name[IFNAMSIZ], struct error *err)
{
	size_t len = strnlen(name, IFNAMSIZ);

	if (len == 0 || len == IFNAMSIZ || memchr(name, '/', len) || memchr(name, ' ', len))
		return error_set(err, EINVAL, "%s: '%.*s' is no name for an interface: 1 to %d "
				 "characters without blank and slash", what, IFNAMSIZ, name,
				 IFNAMSIZ - 1);
	return 0;
}

static int ensure_link(struct network_batch *batch, const char *bridge, struct link *ret,
		       struct error *err)
{
	int r;

	r = get_link(batch, bridge, ret, err);
	if (r == -ENODEV) {
		r = create_bridge(batch, bridge, err);
		if (r == 0)
			r = get_link(batch, bridge, ret, err);
	}
	if (r < 0)
		return r;
	if (!ret->is_bridge)
		return error_set(err, EEXIST, "the name is taken by an interface that is no bridge; "
				 "remove that or choose another name");
	return 0;
}

int network_bridge_ensure(const char *bridge, const char *address, struct error *err)
{
	CLEANUP(network_batch_freep) struct network_batch *batch = NULL;
	struct network_cidr cidr;
	struct link link;
	int r;

	r = check_ifname("bridge", bridge, err);
	if (r < 0)
		return r;
	if (address[0] != '\0') {
		r = network_cidr_parse(address, &cidr, err);
		if (r < 0)
			return error_wrap(err, "bridge %s", bridge);
	}
	r = network_batch_open(-EBADF, &batch, err);
	if (r == 0)
		r = ensure_link(batch, bridge, &link, err);
	if (r < 0)
		return error_wrap(err, "bridge %s", bridge);
	if (!(link.flags & IFF_UP))
		add_up(batch, link.index, "bring it up");
	if (address[0] != '\0') {
		add_address(batch, link.index, &cidr);
		network_batch_tolerate(batch, EEXIST);
	}
	r = network_batch_run(batch, NULL, NULL, err);
	return r < 0 ? error_wrap(err, "bridge %s", bridge) : 0;
}

/* Whatever is written here holds for eth0 too, which comes later. */
static int set_sysctls(struct error *err)
{
	static const struct {
		const char *path, *value;
		bool may_lack;
	} settings[] = {
		{ "/proc/sys/net/ipv4/ping_group_range", "0 0", false },
		{ "/proc/sys/net/ipv4/ip_unprivileged_port_start", "0", false },
		/* The addresses are the engine's business, and usable at once. */
		{ "/proc/sys/net/ipv6/conf/default/accept_dad", "0", true },
		{ "/proc/sys/net/ipv6/conf/default/accept_ra", "0", true },
	};

	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		int r = fd_write_file_at(AT_FDCWD, settings[i].path, settings[i].value, err);

		if (r < 0 && !(settings[i].may_lack && r == -ENOENT))
			return r;
	}
	return 0;
}

static int loopback_up(struct error *err)
{
	CLEANUP(fd_closep) int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };

	if (sock < 0 || ioctl(sock, SIOCSIFFLAGS, &request) < 0)
		return error_set(err, errno, "bring up loopback: %s", strerror(errno));
	return 0;
}

int network_namespace_create(int *ret_netns_fd, struct error *err)
{
	CLEANUP(network_netns_leavep) int home = -EBADF;
	CLEANUP(fd_closep) int netns_fd = -EBADF;
	int r;

	r = network_netns_enter_new(&home, err);
	if (r == 0)
		r = network_netns_current(&netns_fd, err);
	if (r == 0)
		r = loopback_up(err);
	if (r == 0)
		r = set_sysctls(err);
	if (r == 0)
		r = network_netns_leave(&home, err);
	if (r < 0)
		return error_wrap(err, "network namespace");
	*ret_netns_fd = TAKE_FD(netns_fd);
	return 0;
}

/* One message makes both ends, each at its place. It is sent from the
 * container's side because only the first end of a veth pair can be given its
 * index alone. */
static int create_pair(struct network_batch *inside, const struct network_endpoint *ep,
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
	network_batch_add(inside, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, "make the veth pair",
			  &eth0, sizeof(eth0));
	network_batch_put_string(inside, IFLA_IFNAME, ETH0);
	network_batch_put(inside, IFLA_ADDRESS, ep->mac, sizeof(ep->mac));
	network_batch_put_u32(inside, IFLA_MTU, mtu);
	network_batch_nest(inside, IFLA_LINKINFO);
	network_batch_put_string(inside, IFLA_INFO_KIND, "veth");
	network_batch_nest(inside, IFLA_INFO_DATA);
	network_batch_nest(inside, VETH_INFO_PEER);
	network_batch_put_raw(inside, &host, sizeof(host));
	network_batch_put_string(inside, IFLA_IFNAME, ep->host_ifname);
	network_batch_put(inside, IFLA_ADDRESS, host_mac, sizeof(host_mac));
	network_batch_put_u32(inside, IFLA_MTU, mtu);
	network_batch_put_u32(inside, IFLA_NET_NS_FD, (uint32_t)node_fd);
	for (int i = 0; i < 3; i++)
		network_batch_nest_end(inside);
	r = network_batch_run(inside, NULL, NULL, err);
	if (r == -EEXIST && if_nametoindex(ep->host_ifname) == 0)
		return error_set(err, EEXIST, "the network namespace has an " ETH0 " already");
	return r;
}

/* A port that has no address of its own, so sends nothing of its own. */
static int join_bridge(struct network_batch *batch, const struct network_endpoint *ep,
		       const struct link *bridge, struct error *err)
{
	add_up(batch, 0, "put it onto the bridge");
	network_batch_put_string(batch, IFLA_IFNAME, ep->host_ifname);
	network_batch_put_u32(batch, IFLA_MASTER, bridge->index);
	network_batch_nest(batch, IFLA_AF_SPEC);
	network_batch_nest(batch, AF_INET6);
	network_batch_put_u8(batch, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	network_batch_nest_end(batch);
	network_batch_nest_end(batch);
	return network_batch_run(batch, NULL, NULL, err);
}

static void add_default_route(struct network_batch *batch, const struct network_cidr *gateway)
{
	struct rtmsg rtm = {
		.rtm_family = (uint8_t)gateway->family,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_STATIC,
		.rtm_scope = RT_SCOPE_UNIVERSE,
		.rtm_type = RTN_UNICAST,
	};

	network_batch_add(batch, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, "add the default route",
			  &rtm, sizeof(rtm));
	network_batch_put(batch, RTA_GATEWAY, gateway->bytes, network_cidr_size(gateway));
	network_batch_put_u32(batch, RTA_OIF, ETH0_INDEX);
}

static int configure_eth0(struct network_batch *inside, const struct plan *plan,
			  struct error *err)
{
	add_up(inside, ETH0_INDEX, "bring up " ETH0);
	add_address(inside, ETH0_INDEX, &plan->address);
	if (plan->has_gateway)
		add_default_route(inside, &plan->gateway);
	return network_batch_run(inside, NULL, NULL, err);
}

/* The gate goes in before eth0 comes up, so that no frame slips through. */
static int connect_pair(struct network_batch *node, struct network_batch *inside,
			const struct plan *plan, enum network_gate gate, struct error *err)
{
	struct link link;
	int r;

	r = join_bridge(node, plan->ep, &plan->bridge, err);
	if (r == 0 && gate == NETWORK_GATE_CLOSED)
		r = network_gate_set(plan->ep->host_ifname, gate, err);
	if (r == 0)
		r = configure_eth0(inside, plan, err);
	/* Asking for a link makes the kernel finish its carrier work first. Until
	 * then the port is not forwarding, and the bridge that gets its first port
	 * drops what the node sends. */
	if (r == 0)
		r = get_link(node, plan->ep->host_ifname, &link, err);
	if (r == 0)
		r = get_link(node, plan->ep->bridge, &link, err);
	return r;
}

static int parse_endpoint(const struct network_endpoint *ep, struct plan *plan,
			  struct error *err)
{
	int r;

	r = check_ifname("bridge", ep->bridge, err);
	if (r == 0)
		r = check_ifname("interface", ep->host_ifname, err);
	if (r == 0)
		r = network_cidr_parse(ep->address, &plan->address, err);
	if (r < 0 || !plan->has_gateway)
		return r;
	r = network_cidr_parse(ep->gateway, &plan->gateway, err);
	if (r < 0)
		return error_wrap(err, "gateway");
	if (plan->gateway.family != plan->address.family)
		return error_set(err, EINVAL, "gateway %s and address %s are of different kinds",
				 ep->gateway, ep->address);
	return 0;
}

static int attach(int netns_fd, struct plan *plan, enum network_gate gate, struct error *err)
{
	CLEANUP(network_batch_freep) struct network_batch *inside = NULL;
	CLEANUP(network_batch_freep) struct network_batch *node = NULL;
	struct error undo;
	int r;

	r = parse_endpoint(plan->ep, plan, err);
	if (r == 0)
		r = network_batch_open(-EBADF, &node, err);
	if (r == 0)
		r = network_batch_open(netns_fd, &inside, err);
	if (r < 0)
		return r;
	r = get_link(node, plan->ep->bridge, &plan->bridge, err);
	if (r < 0)
		return error_wrap(err, "bridge %s", plan->ep->bridge);
	r = create_pair(inside, plan->ep, plan->bridge.mtu, err);
	if (r < 0)
		return r;
	r = connect_pair(node, inside, plan, gate, err);
	if (r < 0)
		(void)network_detach(plan->ep->host_ifname, &undo);
	return r;
}

int network_attach(int netns_fd, const struct network_endpoint *ep, enum network_gate gate,
		   struct error *err)
{
	struct plan plan = { .ep = ep, .has_gateway = ep->gateway[0] != '\0' };
	int r;

	if (ep->bridge[0] == '\0')
		return 0;
	r = attach(netns_fd, &plan, gate, err);
	return r < 0 ? error_wrap(err, "attach %.*s", IFNAMSIZ, ep->host_ifname) : 0;
}

int network_detach(const char *host_ifname, struct error *err)
{
	CLEANUP(network_batch_freep) struct network_batch *batch = NULL;
	struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC };
	int r;

	r = check_ifname("interface", host_ifname, err);
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
