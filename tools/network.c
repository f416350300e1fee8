#include <jansson.h>
#include <string.h>

#include "engine/base/fd.h"
#include "engine/network/named_network.h"
#include "engine/network/placement.h"
#include "migrate/serve/exchange.h"
#include "tools/commands.h"
#include "tools/table.h"

struct create_options {
	struct option_list subnets, peers;
	const char *driver, *address;
	uint32_t mtu, vni;
};

static const struct option_row create_rows[] = {
	OPTION(0, "driver", TEXT, "bridge|vxlan", struct create_options, driver,
	       "on this node alone, or over all its nodes [vxlan with peers]"),
	OPTION(0, "peer", LIST, "HOST[:PORT]", struct create_options, peers,
	       "another node, where 'godwit serve' runs; repeatable"),
	OPTION(0, "address", TEXT, "ADDR[:PORT]", struct create_options, address,
	       "where peers reach 'godwit serve' of this node [as it reaches the first]"),
	OPTION(0, "subnet", LIST, "CIDR", struct create_options, subnets,
	       "its addresses; twice for IPv4 and IPv6 [a free /24 of 10.89.0.0/16]"),
	OPTION(0, "mtu", COUNT, "N", struct create_options, mtu,
	       "of its links [1500; vxlan: 50 less than on the way to the peers, 70 less over IPv6]"),
	OPTION(0, "vni", COUNT, "N", struct create_options, vni, "number of the vxlan network [by its name]"),
	OPTION_END,
};

struct ls_options {
	bool json;
};

static const struct option_row ls_rows[] = {
	OPTION(0, "json", FLAG, NULL, struct ls_options, json, "one JSON array"),
	OPTION_END,
};

struct rm_options {
	bool here;
};

static const struct option_row rm_rows[] = {
	OPTION(0, "here", FLAG, NULL, struct rm_options, here,
	       "only from this node, when others are not there any more"),
	OPTION_END,
};

/* ---- create ---- */

static int fill(const struct invocation *inv, struct named_network *n, struct error *err)
{
	const struct create_options *o = inv->options;
	const char *name = inv->argv[0];

	if (spec_check_name(name, err) < 0)
		return error_wrap(err, "network");
	memcpy(n->name, name, strlen(name) + 1);
	n->mtu = o->mtu;
	if (o->subnets.n > 2)
		return error_set(err, EINVAL, "network '%s': more than two subnets", name);
	for (size_t i = 0; i < o->subnets.n; i++) {
		if (strlen(o->subnets.items[i]) >= sizeof(n->subnets[i]))
			return error_set(err, EINVAL, "network '%s': subnet %.60s is too long", name,
					 o->subnets.items[i]);
		memcpy(n->subnets[i], o->subnets.items[i], strlen(o->subnets.items[i]) + 1);
	}
	return o->subnets.n ? 0 : named_network_free_subnet(inv->node, n->subnets[0], err);
}

/* What is written is what can be read. */
static int canonical(struct named_network *n, struct error *err)
{
	CLEANUP(freep) char *text = NULL;

	return named_network_format(n, &text, err) < 0 ? -err->code : named_network_parse(text, strlen(text), n, err);
}

static const char *wrong_options(const struct create_options *o)
{
	bool bridge = o->driver && !strcmp(o->driver, "bridge");

	if (o->driver && !bridge && strcmp(o->driver, "vxlan") != 0)
		return "--driver is bridge or vxlan";
	if (bridge && (o->peers.n || o->vni || o->address))
		return "--driver bridge is of this node alone: without --peer, --vni and --address";
	if (!bridge && !o->peers.n && (o->driver || o->vni || o->address))
		return "a vxlan network needs at least one --peer";
	return NULL;
}

/* FNV-1a, folded into 24 bits: the same on every node, and for most names another. */
static uint32_t vni_of(const char *name)
{
	uint32_t h = 2166136261u;

	for (const char *p = name; *p; p++)
		h = (h ^ (unsigned char)*p) * 16777619u;
	h = (h >> 24) ^ (h & 0xffffffu);
	return h ? h : 1;
}

static int create_here(const struct invocation *inv, struct named_network *n, struct error *err)
{
	CLEANUP(fd_closep) int lock = -EBADF;

	if (node_lock(inv->node, &lock, err) < 0)
		return -err->code;
	return named_network_create(inv->node, n, err);
}

/* Here last: when it is here it is everywhere. */
static int create_everywhere(const struct invocation *inv, struct named_network *n, struct error *err)
{
	const struct create_options *o = inv->options;
	CLEANUP(exchange_peers_closep) struct exchange_peers peers = { .n = 0 };

	n->driver = NAMED_NETWORK_VXLAN;
	n->vni = o->vni ? o->vni : vni_of(n->name);
	if (exchange_meet(inv->node, o->peers.items, o->peers.n, o->address, &peers, n, err) < 0 ||
	    canonical(n, err) < 0 || exchange_make(&peers, n, err) < 0)
		return -err->code;
	if (create_here(inv, n, err) == 0)
		return 0;
	exchange_unmake(&peers, n);
	return -err->code;
}

static int create_run(const struct invocation *inv)
{
	const struct create_options *o = inv->options;
	struct named_network n = { 0 }, old;
	struct error err;
	int r;

	if (wrong_options(o))
		return command_usage_error(inv->command, "%s", wrong_options(o));
	r = fill(inv, &n, &err);
	if (r == 0 && named_network_load(inv->node, n.name, &old, &err) != -ENOENT)
		r = error_set(&err, EEXIST, "network '%s' is there already", n.name);
	if (r == 0 && o->peers.n)
		r = create_everywhere(inv, &n, &err);
	else if (r == 0)
		r = canonical(&n, &err) < 0 || create_here(inv, &n, &err) < 0 ? -err.code : 0;
	if (r < 0)
		return command_fail(&err, EXIT_FAILED);
	placement_knock(inv->node);
	return puts(n.name) < 0;
}

/* ---- ls, inspect ---- */

static json_t *places_json(const struct named_network *n, const struct places *all)
{
	json_t *list = json_array();
	char mac[18];

	for (size_t i = 0; i < all->n; i++) {
		const struct place *p = &all->list[i];

		network_mac_format(p->mac, mac);
		(void)json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s,s:s,s:b}", "name", p->name, "address",
			p->address[0], "address2", p->address[1], "mac", mac, "node",
			p->member == n->index ? "" : n->members[p->member].address, "live", p->live));
	}
	return list;
}

static json_t *subnets_json(const struct named_network *n, struct error *err)
{
	json_t *list = json_array();
	char gateway[NETWORK_CIDR_MAX], range[NETWORK_CIDR_MAX];

	for (size_t i = 0; i < 2 && n->subnets[i][0]; i++) {
		if (named_network_gateway(n, i, gateway, err) < 0 || named_network_range(n, i, range, err) < 0) {
			json_decref(list);
			return NULL;
		}
		(void)json_array_append_new(list, json_pack("{s:s,s:s,s:s}", "subnet", n->subnets[i], "gateway",
							    gateway, "range", range));
	}
	return list;
}

static json_t *members_json(const struct named_network *n)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n->n_members; i++)
		(void)json_array_append_new(list, json_pack("{s:s,s:s,s:b}", "address", n->members[i].address, "id",
							    n->members[i].id, "here", i == n->index));
	return list;
}

static json_t *network_json(const struct node *node, const struct named_network *n, struct error *err)
{
	CLEANUP(places_free) struct places all = { 0 };
	char bridge[IFNAMSIZ];
	json_t *subnets, *object;

	if (placement_all(node, n, &all, err) < 0)
		return NULL;
	subnets = subnets_json(n, err);
	if (!subnets)
		return NULL;
	named_network_bridge(node, n->name, bridge);
	object = json_pack("{s:s,s:s,s:o,s:I,s:I,s:s,s:o,s:o}", "name", n->name,
			   "driver", named_network_driver_name(n->driver), "subnets", subnets,
			   "mtu", (json_int_t)n->mtu, "vni", (json_int_t)n->vni, "bridge", bridge,
			   "nodes", members_json(n), "containers", places_json(n, &all));
	if (!object)
		(void)error_set(err, ENOMEM, "network '%s' as JSON", n->name);
	return object;
}

static int add_json(const struct node *node, const char *name, json_t *list, struct error *err)
{
	struct named_network n;
	json_t *object;

	if (named_network_load(node, name, &n, err) < 0)
		return -err->code;
	object = network_json(node, &n, err);
	return object ? json_array_append_new(list, object) : -err->code;
}

static int print_json(json_t *list, int code)
{
	if (json_dumpf(list, stdout, JSON_INDENT(2)) < 0 || puts("") < 0)
		code = EXIT_FAILED;
	json_decref(list);
	return code;
}

static int add_row(const struct node *node, const char *name, struct table *t, struct error *err)
{
	char subnets[2 * NETWORK_CIDR_MAX + 2], mtu[16], nodes[16];
	struct named_network n;

	if (named_network_load(node, name, &n, err) < 0)
		return -err->code;
	(void)snprintf(subnets, sizeof(subnets), "%s%s%s", n.subnets[0], n.subnets[1][0] ? "," : "", n.subnets[1]);
	(void)snprintf(mtu, sizeof(mtu), n.mtu ? "%u" : "-", n.mtu);
	(void)snprintf(nodes, sizeof(nodes), n.n_members ? "%zu" : "1", n.n_members);
	table_add(t, (const char *const[]){ n.name, named_network_driver_name(n.driver), subnets, mtu, nodes });
	return 0;
}

static int ls_run(const struct invocation *inv)
{
	static const char *const headings[] = { "NAME", "DRIVER", "SUBNETS", "MTU", "NODES", NULL };
	const struct ls_options *o = inv->options;
	CLEANUP(table_freep) struct table *t = table_new(headings);
	json_t *list = json_array();
	char **names = NULL;
	int code = EXIT_OK;
	struct error err;
	size_t n = 0;

	if (named_network_list(inv->node, &names, &n, &err) < 0)
		code = command_fail(&err, EXIT_FAILED);
	for (size_t i = 0; t && i < n; i++)
		if ((o->json ? add_json(inv->node, names[i], list, &err) : add_row(inv->node, names[i], t, &err)) < 0)
			code = command_fail(&err, EXIT_FAILED);
	fd_list_free(names, n);
	if (o->json)
		return print_json(list, code);
	json_decref(list);
	return t && table_print(t) == 0 ? code : EXIT_FAILED;
}

static int inspect_run(const struct invocation *inv)
{
	json_t *list = json_array();
	int code = EXIT_OK;
	struct error err;

	for (int i = 0; i < inv->argc; i++)
		if (add_json(inv->node, inv->argv[i], list, &err) < 0)
			code = command_fail(&err, EXIT_FAILED);
	return print_json(list, code);
}

/* ---- rm ---- */

static int remove_one(const struct node *node, const char *name, bool here, struct error *err)
{
	CLEANUP(fd_closep) int lock = -EBADF;
	struct named_network n;

	if (named_network_load(node, name, &n, err) < 0)
		return -err->code;
	if (n.driver == NAMED_NETWORK_VXLAN && !here)
		return exchange_remove(node, &n, err) < 0 ?
		       error_wrap(err, "network '%s' stays on all its nodes (--here: on the others)", name) : 0;
	return node_lock(node, &lock, err) < 0 ? -err->code : named_network_remove(node, name, err);
}

static int rm_run(const struct invocation *inv)
{
	const struct rm_options *o = inv->options;
	int code = EXIT_OK;
	struct error err;

	for (int i = 0; i < inv->argc; i++)
		if (remove_one(inv->node, inv->argv[i], o->here, &err) < 0)
			code = command_fail(&err, EXIT_FAILED);
	return code;
}

const struct command command_network_create = {
	.name = "network create", .usage = "NAME", .summary = "make a network that has a name",
	.notes = "Its containers (run --network NAME) reach one another, also by name, and go out behind\n"
		 "the node's address. Its first address is their gateway. With peers it is made on all\n"
		 "these nodes, and containers on any of them are on one segment.\n",
	.options = create_rows, .options_size = sizeof(struct create_options),
	.min_args = 1, .max_args = 1, .run = create_run,
};

const struct command command_network_ls = {
	.name = "network ls", .usage = "", .summary = "list networks",
	.options = ls_rows, .options_size = sizeof(struct ls_options), .run = ls_run,
};

const struct command command_network_inspect = {
	.name = "network inspect", .usage = "NAME...", .summary = "print all about networks, as JSON",
	.notes = "With the containers on each, here and on other nodes: \"node\" is where, empty for here;\n"
		 "those that do not run hold their addresses.\n",
	.min_args = 1, .max_args = ARGS_MANY, .run = inspect_run,
};

const struct command command_network_rm = {
	.name = "network rm", .usage = "NAME...", .summary = "remove networks that no container uses",
	.notes = "From all nodes that it was made on, or, when one of them has a container on it or does not\n"
		 "answer, from none.\n",
	.options = rm_rows, .options_size = sizeof(struct rm_options),
	.min_args = 1, .max_args = ARGS_MANY, .run = rm_run,
};
