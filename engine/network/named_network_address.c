#include <string.h>

#include "engine/network/named_network.h"
#include "engine/network/placement.h"

int named_network_host(const struct named_network *n, const char *address, char ret[NETWORK_CIDR_MAX],
		       struct error *err)
{
	char gateway[NETWORK_CIDR_MAX];

	for (size_t i = 0; i < 2 && n->subnets[i][0]; i++) {
		if ((strchr(n->subnets[i], ':') != NULL) != (strchr(address, ':') != NULL))
			continue;
		if (network_address_in(n->subnets[i], address, ret, err) < 0 ||
		    named_network_gateway(n, i, gateway, err) < 0)
			return -err->code;
		return strcmp(ret, gateway) != 0 ? 0 :
		       error_set(err, EADDRINUSE, "address %s is the gateway of network '%s'", address, n->name);
	}
	return error_set(err, EINVAL, "address %.60s is in no subnet of network '%s'", address, n->name);
}

static int refuse(const struct node *node, const struct named_network *n, const struct place *p,
		  const char *address, struct error *err)
{
	return error_set(err, EADDRINUSE,
			 "address %s belongs to container '%s' on %s; choose another, or remove that one", address,
			 p->name, p->member == n->index ? node->config.name : n->members[p->member].address);
}

/* Only of this node's part: nobody else gives it out. */
static int take_wanted(const struct node *node, const struct named_network *n, const struct places *all,
		       const char *wanted, char ret[NETWORK_CIDR_MAX], struct error *err)
{
	char range[NETWORK_CIDR_MAX];
	const struct place *p;
	bool ours = false;

	if (network_address_in(n->subnets[0], wanted, ret, err) < 0 ||
	    named_network_range(n, 0, range, err) < 0)
		return -err->code;
	(void)network_subnets_overlap(range, wanted, &ours, err);
	if (!ours)
		return error_set(err, EADDRNOTAVAIL, "address %s is not one that %s gives out, which are %s", wanted,
				 node->config.name, range);
	if (named_network_host(n, wanted, ret, err) < 0)
		return -err->code;
	p = places_find(all, ret);
	return p ? refuse(node, n, p, wanted, err) : 0;
}

static int lowest_free(const struct named_network *n, const struct places *all, size_t i,
		       char ret[NETWORK_CIDR_MAX], struct error *err)
{
	char range[NETWORK_CIDR_MAX], gateway[NETWORK_CIDR_MAX];
	int r = 0;

	if (named_network_range(n, i, range, err) < 0 || named_network_gateway(n, i, gateway, err) < 0)
		return -err->code;
	for (uint32_t k = 0; r == 0; k++) {
		r = network_address_nth(n->subnets[i], range, gateway, k, ret, err);
		if (r == 0 && !places_find(all, ret))
			return 0;
	}
	return r == -ERANGE ? error_set(err, EADDRNOTAVAIL, "no address is left in %s of network '%s'; remove "
					"containers", range, n->name) : r;
}

static int gateway_of(const struct named_network *n, size_t i, char ret[INET6_ADDRSTRLEN], struct error *err)
{
	char cidr[NETWORK_CIDR_MAX];

	if (named_network_gateway(n, i, cidr, err) < 0)
		return -err->code;
	(void)snprintf(ret, INET6_ADDRSTRLEN, "%.*s", (int)strcspn(cidr, "/"), cidr);
	return 0;
}

/* One that is on its way here is in no claim of ours; its address is in that of the node
 * that it comes from, and of its own part of the subnet. */
int named_network_choose(const struct node *node, const struct named_network *n, const char *wanted,
			 struct network_endpoint *ep, struct error *err)
{
	CLEANUP(places_free) struct places all = { 0 };

	if (placement_all(node, n, &all, err) < 0)
		return -err->code;
	if ((wanted ? take_wanted(node, n, &all, wanted, ep->address, err) :
		      lowest_free(n, &all, 0, ep->address, err)) < 0 ||
	    gateway_of(n, 0, ep->gateway, err) < 0)
		return -err->code;
	if (n->subnets[1][0] && (lowest_free(n, &all, 1, ep->address2, err) < 0 ||
				 gateway_of(n, 1, ep->gateway2, err) < 0))
		return -err->code;
	memcpy(ep->network, n->name, sizeof(ep->network));
	return network_mac_for(ep->address, ep->mac, err);
}
