#include <stdio.h>
#include <string.h>

#include "engine/base/hash.h"
#include "engine/network/named_network.h"
#include "engine/network/network_vxlan.h"

static void make_ifname(const struct node *node, const char *name, const char *prefix, char ret[IFNAMSIZ])
{
	const char *const words[] = { node->path, "/", name };
	uint64_t h = HASH_START;

	for (size_t i = 0; i < 3; i++)
		h = hash_add(h, words[i], strlen(words[i]));
	(void)snprintf(ret, IFNAMSIZ, "%s%012llx", prefix, (unsigned long long)(h & 0xffffffffffffu));
}

void named_network_bridge(const struct node *node, const char *name, char ret[IFNAMSIZ])
{
	make_ifname(node, name, "gb", ret);
}

void named_network_vxlan(const struct node *node, const char *name, char ret[IFNAMSIZ])
{
	make_ifname(node, name, "gx", ret);
}

int named_network_links_up(const struct node *node, const struct named_network *n, struct error *err)
{
	char bridge[IFNAMSIZ], vxlan[IFNAMSIZ], gateway[NETWORK_CIDR_MAX];
	const struct network_vxlan v = { .ifname = vxlan, .bridge = bridge, .vni = n->vni, .mtu = n->mtu,
					 .local = n->members[n->index].address };

	named_network_bridge(node, n->name, bridge);
	named_network_vxlan(node, n->name, vxlan);
	for (size_t i = 0; i < 2 && n->subnets[i][0]; i++)
		if (named_network_gateway(n, i, gateway, err) < 0 || network_bridge_ensure(bridge, gateway, err) < 0)
			return -err->code;
	if (n->driver == NAMED_NETWORK_VXLAN && network_vxlan_ensure(&v, err) < 0)
		return -err->code;
	return n->mtu ? network_bridge_set_mtu(bridge, n->mtu, err) : 0;
}
