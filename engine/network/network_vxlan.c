#include <arpa/inet.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "engine/network/network_address.h"
#include "engine/network/network_batch.h"
#include "engine/network/network_link.h"
#include "engine/network/network_vxlan.h"

#define VXLAN_PORT 4789		/* RFC 7348 */

int network_place_host(const char *text, struct network_place_host *ret, struct error *err)
{
	const char *colon = strchr(text, ':');
	bool bracket = text[0] == '[';
	size_t len = bracket ? strcspn(text, "]") : colon && !strchr(colon + 1, ':') ? (size_t)(colon - text) :
		     strlen(text);
	struct network_place_host host = { 0 };
	char address[INET6_ADDRSTRLEN];

	if (len - bracket < sizeof(address)) {
		memcpy(address, text + bracket, len - bracket);
		address[len - bracket] = '\0';
		host.family = strchr(address, ':') ? AF_INET6 : AF_INET;
		host.size = host.family == AF_INET6 ? 16 : 4;
		if (inet_pton(host.family, address, host.bytes) == 1) {
			*ret = host;
			return 0;
		}
	}
	return error_set(err, EINVAL, "'%.60s' is no IPv4 or IPv6 address", text);
}

static void add_vxlan(struct network_batch *batch, const struct network_vxlan *v,
		      const struct network_place_host *local)
{
	struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC };

	network_batch_add(batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, "make the vxlan device", &ifi, sizeof(ifi));
	network_batch_put_string(batch, IFLA_IFNAME, v->ifname);
	network_batch_put_u32(batch, IFLA_MTU, v->mtu);
	network_batch_nest(batch, IFLA_LINKINFO);
	network_batch_put_string(batch, IFLA_INFO_KIND, "vxlan");
	network_batch_nest(batch, IFLA_INFO_DATA);
	network_batch_put_u32(batch, IFLA_VXLAN_ID, v->vni);
	network_batch_put_u16(batch, IFLA_VXLAN_PORT, htons(VXLAN_PORT));
	network_batch_put_u8(batch, IFLA_VXLAN_LEARNING, 0);
	network_batch_put(batch, local->family == AF_INET ? IFLA_VXLAN_LOCAL : IFLA_VXLAN_LOCAL6, local->bytes,
			  local->size);
	network_batch_nest_end(batch);
	network_batch_nest_end(batch);
}

static void add_port_flags(struct network_batch *batch, unsigned index)
{
	static const struct {
		int attr;
		uint8_t value;
	} flags[] = { { IFLA_BRPORT_LEARNING, 0 }, { IFLA_BRPORT_UNICAST_FLOOD, 0 }, { IFLA_BRPORT_MCAST_FLOOD, 0 },
		      { IFLA_BRPORT_BCAST_FLOOD, 0 }, { IFLA_BRPORT_NEIGH_SUPPRESS, 1 } };
	struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC, .ifi_index = (int)index };

	network_batch_add(batch, RTM_NEWLINK, 0, "let it flood nothing", &ifi, sizeof(ifi));
	network_batch_nest(batch, IFLA_LINKINFO);
	network_batch_put_string(batch, IFLA_INFO_SLAVE_KIND, "bridge");
	network_batch_nest(batch, IFLA_INFO_SLAVE_DATA);
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		network_batch_put_u8(batch, flags[i].attr, flags[i].value);
	network_batch_nest_end(batch);
	network_batch_nest_end(batch);
}

static int join(struct network_batch *batch, const struct network_vxlan *v, struct error *err)
{
	struct network_link bridge, link;
	struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC };

	if (network_link_get(batch, v->bridge, &bridge, err) < 0 ||
	    network_link_get(batch, v->ifname, &link, err) < 0)
		return -err->code;
	ifi.ifi_index = (int)link.index;
	network_batch_add(batch, RTM_NEWLINK, 0, "put it onto the bridge", &ifi, sizeof(ifi));
	network_batch_put_u32(batch, IFLA_MASTER, bridge.index);
	network_batch_nest(batch, IFLA_AF_SPEC);
	network_batch_nest(batch, AF_INET6);
	network_batch_put_u8(batch, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	network_batch_nest_end(batch);
	network_batch_nest_end(batch);
	add_port_flags(batch, link.index);
	network_link_add_up(batch, link.index, "bring it up");
	return network_batch_run(batch, NULL, NULL, err);
}

/* It comes up last: one that is up is done. */
int network_vxlan_ensure(const struct network_vxlan *v, struct error *err)
{
	CLEANUP(network_batch_freep) struct network_batch *batch = NULL;
	struct network_link link = { 0 };
	struct network_place_host local;
	int r;

	if (network_place_host(v->local, &local, err) < 0 || network_batch_open(-EBADF, &batch, err) < 0)
		return -err->code;
	r = network_link_get(batch, v->ifname, &link, err);
	if (r == 0 && (link.flags & IFF_UP))
		return 0;
	if (r == -ENODEV) {
		add_vxlan(batch, v, &local);
		r = network_batch_run(batch, NULL, NULL, err);
	}
	if (r == 0)
		r = join(batch, v, err);
	return r < 0 ? error_wrap(err, "vxlan device %s", v->ifname) : 0;
}

int network_bridge_set_mtu(const char *bridge, uint32_t mtu, struct error *err)
{
	CLEANUP(network_batch_freep) struct network_batch *batch = NULL;
	struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC };
	struct network_link link;

	if (network_batch_open(-EBADF, &batch, err) < 0 || network_link_get(batch, bridge, &link, err) < 0)
		return -err->code;
	if (link.mtu == mtu)
		return 0;
	network_batch_add(batch, RTM_NEWLINK, 0, "set the MTU", &ifi, sizeof(ifi));
	network_batch_put_string(batch, IFLA_IFNAME, bridge);
	network_batch_put_u32(batch, IFLA_MTU, mtu);
	return network_batch_run(batch, NULL, NULL, err) < 0 ? error_wrap(err, "bridge %s", bridge) : 0;
}

/* ---- where a MAC is ---- */

static void add_forwarding(struct network_batch *batch, bool set, const struct network_remote *r, uint8_t flags,
			   const struct network_place_host *node)
{
	const struct ndmsg ndm = {
		.ndm_family = AF_BRIDGE,
		.ndm_ifindex = (int)if_nametoindex(r->vxlan),
		.ndm_state = flags == NTF_SELF ? NUD_NOARP | NUD_PERMANENT : NUD_NOARP | NUD_REACHABLE,
		.ndm_flags = flags,
	};

	network_batch_add(batch, set ? RTM_NEWNEIGH : RTM_DELNEIGH, set ? NLM_F_CREATE | NLM_F_REPLACE : 0,
			  "say where a MAC is", &ndm, sizeof(ndm));
	network_batch_put(batch, NDA_LLADDR, r->mac, 6);
	if (node)
		network_batch_put(batch, NDA_DST, node->bytes, node->size);
	if (!set)
		network_batch_tolerate(batch, ENOENT);
}

static int add_neighbours(struct network_batch *batch, bool set, const struct network_remote *r, struct error *err)
{
	for (size_t i = 0; i < 2 && r->addresses[i] && r->addresses[i][0]; i++) {
		struct ndmsg ndm = { .ndm_ifindex = (int)if_nametoindex(r->bridge), .ndm_state = NUD_PERMANENT };
		struct network_cidr cidr;

		if (network_cidr_parse(r->addresses[i], &cidr, err) < 0)
			return -err->code;
		ndm.ndm_family = (uint8_t)cidr.family;
		network_batch_add(batch, set ? RTM_NEWNEIGH : RTM_DELNEIGH, set ? NLM_F_CREATE | NLM_F_REPLACE : 0,
				  "say which MAC an address has", &ndm, sizeof(ndm));
		network_batch_put(batch, NDA_DST, cidr.bytes, network_cidr_size(&cidr));
		if (set)
			network_batch_put(batch, NDA_LLADDR, r->mac, 6);
		else
			network_batch_tolerate(batch, ENOENT);
	}
	return 0;
}

int network_remote_set(const struct network_remote *r, bool with_port, struct error *err)
{
	CLEANUP(network_batch_freep) struct network_batch *batch = NULL;
	struct network_place_host node;

	if (network_place_host(r->node, &node, err) < 0 || network_batch_open(-EBADF, &batch, err) < 0)
		return -err->code;
	add_forwarding(batch, true, r, NTF_SELF, &node);
	if (with_port)
		add_forwarding(batch, true, r, NTF_MASTER, NULL);
	if (add_neighbours(batch, true, r, err) < 0)
		return -err->code;
	return network_batch_run(batch, NULL, NULL, err);
}

int network_remote_remove(const struct network_remote *r, struct error *err)
{
	CLEANUP(network_batch_freep) struct network_batch *batch = NULL;

	if (network_batch_open(-EBADF, &batch, err) < 0)
		return -err->code;
	add_forwarding(batch, false, r, NTF_SELF, NULL);
	add_forwarding(batch, false, r, NTF_MASTER, NULL);
	if (add_neighbours(batch, false, r, err) < 0)
		return -err->code;
	return network_batch_run(batch, NULL, NULL, err);
}
