#include <string.h>

#include "engine/container.h"
#include "engine/network/address.h"
#include "engine/network/departed.h"

#define ASK_US 250000u		/* a neighbour on the same segment answers within some ms */

static bool same_host(const char *a, const char *b)
{
	size_t n = strcspn(a, "/");

	return n && n == strcspn(b, "/") && !strncmp(a, b, n);
}

/* The addresses that containers of this node have; entries may be "". */
static int taken_addresses(const struct node *node, char (**ret)[NETWORK_CIDR_MAX], char ***ret_names,
			   size_t *ret_n, struct error *err)
{
	char (*list)[NETWORK_CIDR_MAX];
	struct error ignored;

	if (container_list(node, ret_names, ret_n, err) < 0)
		return -err->code;
	list = calloc(*ret_n + 1, sizeof(*list));
	if (!list)
		return error_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < *ret_n; i++) {
		CLEANUP(container_freep) struct container *c = NULL;

		/* Named networks have subnets of their own. */
		if (container_open(node, (*ret_names)[i], &c, &ignored) == 0 && !c->spec->endpoint.network[0])
			memcpy(list[i], c->spec->endpoint.address, sizeof(*list));
	}
	*ret = list;
	return 0;
}

static void free_names(char **names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(names[i]);
	free(names);
}

static const char *holder(const char *address, char (*list)[NETWORK_CIDR_MAX], char **names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (same_host(list[i], address))
			return names[i];
	return NULL;
}

static int check(const struct node *node, const char *address, const char *by, uint64_t wait_us,
		 struct error *err)
{
	bool local = false, answers = false;

	if (by)
		return error_set(err, EADDRINUSE,
				 "address %s belongs to container '%s' on %s; choose another, or remove that one",
				 address, by, node->config.name);
	if (network_address_is_local(address, &local, err) < 0)
		return -err->code;
	if (local)
		return error_set(err, EADDRINUSE, "address %s belongs to an interface of %s", address,
				 node->config.name);
	if (wait_us && network_address_answers(node->config.bridge, address, wait_us, &answers, err) < 0)
		return -err->code;
	return answers ? error_set(err, EADDRINUSE, "address %s is answered for by another machine on the "
				   "network of %s", address, node->config.bridge) : 0;
}

int address_check_free(const struct node *node, const char *address, uint64_t wait_us,
		       struct error *err)
{
	char (*list)[NETWORK_CIDR_MAX] = NULL;
	char **names = NULL;
	size_t n = 0;
	int r = taken_addresses(node, &list, &names, &n, err);

	if (r == 0)
		r = check(node, address, holder(address, list, names, n), wait_us, err);
	free(list);
	free_names(names, n);
	return r;
}

/* The same; and who had it may have it still, on another node. */
static int check_to_give(const struct node *node, const char *address, const char *by, struct error *err)
{
	const struct node_config *c = &node->config;

	if (by || !departed_has(node, address))
		return check(node, address, by, 0, err);
	if (network_bridge_ensure(c->bridge, c->bridge_address, err) < 0)
		return -err->code;
	return check(node, address, NULL, ASK_US, err);
}

/* Those of containers that have left come last. */
static int lowest_free(const struct node *node, char (*list)[NETWORK_CIDR_MAX], char **names, size_t n,
		       bool departed, char ret[NETWORK_CIDR_MAX], struct error *err)
{
	const struct node_config *c = &node->config;
	struct error ignored;

	for (uint32_t i = 0;; i++) {
		int r = network_address_nth(c->subnet, c->range, c->gateway, i, ret, err);

		if (r == -ERANGE && !departed)
			return lowest_free(node, list, names, n, true, ret, err);
		if (r == -ERANGE)
			return error_set(err, EADDRNOTAVAIL, "no address is left in %s of %s; remove containers "
					 "or widen 'range' in %s/node.json", c->range[0] ? c->range : c->subnet,
					 c->name, node->path);
		if (r < 0 || (departed_has(node, ret) == departed &&
			      check_to_give(node, ret, holder(ret, list, names, n), &ignored) == 0))
			return r;
	}
}

int address_choose(const struct node *node, const char *wanted, struct network_endpoint *ep,
		   struct error *err)
{
	char (*list)[NETWORK_CIDR_MAX] = NULL;
	char **names = NULL;
	size_t n = 0;
	int r = taken_addresses(node, &list, &names, &n, err);

	if (r == 0 && wanted) {
		r = network_address_in(node->config.subnet, wanted, ep->address, err);
		if (r == 0)
			r = check_to_give(node, ep->address, holder(ep->address, list, names, n), err);
	} else if (r == 0) {
		r = lowest_free(node, list, names, n, false, ep->address, err);
	}
	free(list);
	free_names(names, n);
	if (r < 0)
		return r;
	departed_forget(node, ep->address);
	(void)snprintf(ep->gateway, sizeof(ep->gateway), "%.*s", (int)sizeof(ep->gateway) - 1,
		       node->config.gateway);
	return network_mac_for(ep->address, ep->mac, err);
}
