#include <arpa/inet.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "engine/base/fd.h"
#include "engine/container.h"
#include "engine/network/named_network.h"
#include "engine/network/network_vxlan.h"

#define NETWORKS "networks"
#define NETWORK_JSON "network.json"
#define FRESH ".new"
#define VNI_MAX 0xffffffu
#define MTU_MIN 576u
#define MTU_MAX 65535u

static const char *const drivers[] = { [NAMED_NETWORK_BRIDGE] = "bridge", [NAMED_NETWORK_VXLAN] = "vxlan" };

const char *named_network_driver_name(enum named_network_driver driver)
{
	return drivers[driver];
}

/* ---- the record ---- */

/* Copies a string of an array into a field. */
static int take_string(json_t *value, char *to, size_t size, const char *what, struct error *err)
{
	const char *text = json_string_value(value);

	if (!text || !*text || strlen(text) >= size)
		return error_set(err, EINVAL, "'%s' must hold strings of 1 to %zu characters", what, size - 1);
	memcpy(to, text, strlen(text) + 1);
	return 0;
}

static int take_subnets(json_t *list, struct named_network *n, struct error *err)
{
	bool v6[2] = { false, true };

	if (json_array_size(list) < 1 || json_array_size(list) > 2)
		return error_set(err, EINVAL, "a network has one subnet, or one of IPv4 and one of IPv6");
	for (size_t i = 0; i < json_array_size(list); i++) {
		char text[NETWORK_CIDR_MAX];

		if (take_string(json_array_get(list, i), text, sizeof(text), "subnets", err) < 0 ||
		    network_subnet_part(text, 0, 1, n->subnets[i], err) < 0)
			return -err->code;
		v6[i] = strchr(text, ':') != NULL;
	}
	if (n->subnets[1][0] && v6[0] == v6[1])
		return error_set(err, EINVAL, "a network has one subnet, or one of IPv4 and one of IPv6");
	return 0;
}

static int take_members(json_t *list, struct named_network *n, struct error *err)
{
	struct network_place_host host;

	if (json_array_size(list) > NAMED_NETWORK_MEMBERS_MAX)
		return error_set(err, E2BIG, "more than %d nodes", NAMED_NETWORK_MEMBERS_MAX);
	for (; n->n_members < json_array_size(list); n->n_members++) {
		struct named_network_member *m = &n->members[n->n_members];
		json_t *pair = json_array_get(list, n->n_members);

		if (take_string(json_object_get(pair, "address"), m->address, sizeof(m->address), "nodes", err) < 0 ||
		    take_string(json_object_get(pair, "id"), m->id, sizeof(m->id), "nodes", err) < 0 ||
		    network_place_host(m->address, &host, err) < 0)
			return -err->code;
		if (strspn(m->id, "0123456789abcdef") != NODE_ID_SIZE - 1)
			return error_set(err, EINVAL, "a node's id must be 32 hex digits");
		for (size_t i = 0; i < n->n_members; i++)
			if (!strcmp(n->members[i].id, m->id) || !strcmp(n->members[i].address, m->address))
				return error_set(err, EINVAL, "%s and %s are the same node", n->members[i].address,
						 m->address);
	}
	return 0;
}

static int check(const struct named_network *n, struct error *err)
{
	char range[NETWORK_CIDR_MAX];
	bool vxlan = n->driver == NAMED_NETWORK_VXLAN;

	if (spec_check_name(n->name, err) < 0)
		return error_wrap(err, "name of a network");
	if (!strcmp(n->name, "none") || !strcmp(n->name, "bridge"))
		return error_set(err, EINVAL, "the name '%s' means something else; choose another", n->name);
	if (vxlan ? n->n_members == 0 || n->index >= n->n_members || !n->vni : n->n_members || n->index || n->vni)
		return error_set(err, EINVAL, "nodes, index and VNI are those of no %s", drivers[n->driver]);
	for (size_t i = 0; i < 2 && n->subnets[i][0]; i++)
		if (named_network_range(n, i, range, err) < 0)
			return -err->code;
	return n->subnets[1][0] && n->mtu && n->mtu < 1280 ?
		error_set(err, EINVAL, "IPv6 needs an MTU of 1280 (RFC 8200)") : 0;
}

static int take_record(json_t *root, struct named_network *n, struct error *err)
{
	json_int_t vni = 0, mtu = 0, index = 0;
	json_t *subnets, *members;
	const char *name, *driver;
	json_error_t je;

	if (json_unpack_ex(root, &je, JSON_STRICT, "{s:s,s:s,s:o,s:I,s:I,s:o,s:I}", "name", &name, "driver", &driver,
			   "subnets", &subnets, "vni", &vni, "mtu", &mtu, "nodes", &members, "index", &index) < 0)
		return error_set(err, EINVAL, "%s", je.text);
	if (!json_is_array(subnets) || !json_is_array(members))
		return error_set(err, EINVAL, "'subnets' and 'nodes' must be arrays");
	if (strcmp(driver, drivers[0]) != 0 && strcmp(driver, drivers[1]) != 0)
		return error_set(err, EINVAL, "driver '%.32s' is neither bridge nor vxlan", driver);
	if (vni < 0 || vni > VNI_MAX)
		return error_set(err, EINVAL, "a VNI is from 1 to %u", VNI_MAX);
	if (mtu && (mtu < MTU_MIN || mtu > MTU_MAX))
		return error_set(err, EINVAL, "an MTU is from %u to %u", MTU_MIN, MTU_MAX);
	if (strlen(name) >= sizeof(n->name) || index < 0)
		return error_set(err, EINVAL, "'name' is too long, or 'index' too low");
	memcpy(n->name, name, strlen(name) + 1);
	n->driver = strcmp(driver, drivers[NAMED_NETWORK_VXLAN]) ? NAMED_NETWORK_BRIDGE : NAMED_NETWORK_VXLAN;
	n->vni = (uint32_t)vni;
	n->mtu = (uint32_t)mtu;
	n->index = (size_t)index;
	if (take_subnets(subnets, n, err) < 0 || take_members(members, n, err) < 0)
		return -err->code;
	return check(n, err);
}

int named_network_parse(const char *text, size_t len, struct named_network *ret, struct error *err)
{
	CLEANUP(json_decrefp) json_t *root = NULL;
	struct named_network n = { 0 };
	json_error_t je;

	if (len > NAMED_NETWORK_JSON_LIMIT)
		return error_set(err, EFBIG, "network: larger than %d bytes", NAMED_NETWORK_JSON_LIMIT);
	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
	if (!json_is_object(root))
		return error_set(err, EINVAL, "network: line %d: %s", je.line, root ? "not an object" : je.text);
	if (take_record(root, &n, err) < 0)
		return error_wrap(err, "network");
	*ret = n;
	return 0;
}

int named_network_format(const struct named_network *n, char **ret_text, struct error *err)
{
	CLEANUP(json_decrefp) json_t *root = NULL;
	json_t *subnets = json_array(), *members = json_array();

	for (size_t i = 0; i < 2 && n->subnets[i][0]; i++)
		(void)json_array_append_new(subnets, json_string(n->subnets[i]));
	for (size_t i = 0; i < n->n_members; i++)
		(void)json_array_append_new(members, json_pack("{s:s,s:s}", "address", n->members[i].address,
							       "id", n->members[i].id));
	root = json_pack("{s:s,s:s,s:o,s:I,s:I,s:o,s:I}", "name", n->name, "driver", drivers[n->driver],
			 "subnets", subnets, "vni", (json_int_t)n->vni, "mtu", (json_int_t)n->mtu,
			 "nodes", members, "index", (json_int_t)n->index);
	*ret_text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
	return *ret_text ? 0 : error_set(err, EINVAL, "network '%s': a value is not valid UTF-8", n->name);
}

bool named_network_same(const struct named_network *a, const struct named_network *b)
{
	bool same = !strcmp(a->name, b->name) && a->driver == b->driver && a->vni == b->vni && a->mtu == b->mtu &&
		    !strcmp(a->subnets[0], b->subnets[0]) && !strcmp(a->subnets[1], b->subnets[1]) &&
		    a->n_members == b->n_members;

	for (size_t i = 0; same && i < a->n_members; i++)
		same = !strcmp(a->members[i].address, b->members[i].address) &&
		       !strcmp(a->members[i].id, b->members[i].id);
	return same;
}

/* ---- the state directory ---- */

int named_network_open(const struct node *node, const char *name, int *ret_dir, struct error *err)
{
	char path[sizeof(NETWORKS) + NETWORK_NAME_MAX + 2];
	int r = spec_check_name(name, err);

	if (r == 0) {
		(void)snprintf(path, sizeof(path), NETWORKS "/%s", name);
		r = fd_open_dir_at(node->state_fd, path, false, 0, ret_dir, err);
	}
	return r == -ENOENT ? error_set(err, ENOENT, "no network '%s' on %s; 'godwit network ls' lists them, 'godwit "
					"network create' makes one", name, node->config.name) : r;
}

int named_network_lock(int dir_fd, int *ret_lock, struct error *err)
{
	CLEANUP(fd_closep) int fd = openat(dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || flock(fd, LOCK_EX) < 0)
		return error_set(err, errno, "lock a network: %s", strerror(errno));
	if (faccessat(dir_fd, NETWORK_JSON, F_OK, 0) < 0)
		return error_set(err, errno, "the network was removed meanwhile");
	*ret_lock = TAKE_FD(fd);
	return 0;
}

int named_network_load(const struct node *node, const char *name, struct named_network *ret, struct error *err)
{
	CLEANUP(fd_closep) int dir = -EBADF;
	CLEANUP(freep) char *text = NULL;
	size_t len;

	if (named_network_open(node, name, &dir, err) < 0)
		return -err->code;
	if (fd_read_file_at(dir, NETWORK_JSON, NAMED_NETWORK_JSON_LIMIT, &text, &len, err) < 0 ||
	    named_network_parse(text, len, ret, err) < 0)
		return error_wrap(err, "network '%s'", name);
	return strcmp(ret->name, name) == 0 ? 0 : error_set(err, EINVAL, "network '%s': its record is that of '%s'",
							    name, ret->name);
}

int named_network_list(const struct node *node, char ***ret, size_t *ret_n, struct error *err)
{
	int r = fd_list_at(node->state_fd, NETWORKS, ret, ret_n, err);

	if (r != -ENOENT)
		return r;
	*ret = NULL;
	*ret_n = 0;
	return 0;
}

static int refuse_overlap(const char *subnet, const char *other, const char *whose, struct error *err)
{
	bool overlap = false;

	if (!other[0] || !subnet[0])
		return 0;
	if (network_subnets_overlap(subnet, other, &overlap, err) < 0)
		return -err->code;
	return overlap ? error_set(err, EADDRINUSE, "subnet %s overlaps %s of %s; choose another", subnet, other,
				   whose) : 0;
}

static int check_subnet(const struct node *node, const char *subnet, struct error *err)
{
	char **names = NULL;
	size_t n_names = 0;
	int r = refuse_overlap(subnet, node->config.subnet, "the node's own bridge", err);

	if (r == 0)
		r = named_network_list(node, &names, &n_names, err);
	for (size_t i = 0; r == 0 && i < n_names; i++) {
		struct named_network other;

		r = named_network_load(node, names[i], &other, err);
		for (size_t k = 0; r == 0 && k < 2; k++)
			r = refuse_overlap(subnet, other.subnets[k], other.name, err);
	}
	fd_list_free(names, n_names);
	return r;
}

int named_network_free_subnet(const struct node *node, char ret[NETWORK_CIDR_MAX], struct error *err)
{
	int r = -EADDRINUSE;

	for (unsigned k = 0; r == -EADDRINUSE && k < 256; k++) {
		(void)snprintf(ret, NETWORK_CIDR_MAX, "10.89.%u.0/24", k);
		r = check_subnet(node, ret, err);
	}
	return r;
}

/* Made under another name, so that it appears whole. */
static int write_folder(int networks, const struct named_network *n, struct error *err)
{
	CLEANUP(fd_closep) int dir = -EBADF;
	CLEANUP(freep) char *text = NULL;

	if (fd_remove_tree_at(networks, FRESH, err) < 0 || fd_open_dir_at(networks, FRESH, true, 0700, &dir, err) < 0 ||
	    named_network_format(n, &text, err) < 0 ||
	    fd_replace_file_at(dir, NETWORK_JSON, text, strlen(text), 0600, FD_REPLACE_DURABLE, err) < 0)
		return -err->code;
	if (renameat2(networks, FRESH, networks, n->name, RENAME_NOREPLACE) < 0)
		return errno == EEXIST ? error_set(err, EEXIST, "network '%s' is there already", n->name) :
			error_set(err, errno, "make its folder: %s", strerror(errno));
	return fsync(networks) < 0 ? error_set(err, errno, "fsync: %s", strerror(errno)) : 0;
}

/* The last one takes the folder of all along. */
static int remove_folder(const struct node *node, const char *name, struct error *err)
{
	CLEANUP(fd_closep) int networks = -EBADF;

	if (fd_open_dir_at(node->state_fd, NETWORKS, false, 0, &networks, err) < 0 ||
	    fd_remove_tree_at(networks, FRESH, err) < 0 || fd_remove_tree_at(networks, name, err) < 0)
		return -err->code;
	(void)unlinkat(node->state_fd, NETWORKS, AT_REMOVEDIR);
	return 0;
}

static int take_down(const struct node *node, const char *name, struct error *err)
{
	char vxlan[IFNAMSIZ], bridge[IFNAMSIZ];

	named_network_vxlan(node, name, vxlan);
	named_network_bridge(node, name, bridge);
	if (network_detach(vxlan, err) < 0 || network_detach(bridge, err) < 0)
		return -err->code;
	return remove_folder(node, name, err);
}

/* The daemon may have seen the folder, and be about to make them, too. */
static int first_links(const struct node *node, const struct named_network *n, struct error *err)
{
	CLEANUP(fd_closep) int dir = -EBADF, lock = -EBADF;

	if (named_network_open(node, n->name, &dir, err) < 0 || named_network_lock(dir, &lock, err) < 0)
		return -err->code;
	return named_network_links_up(node, n, err);
}

int named_network_create(const struct node *node, const struct named_network *n, struct error *err)
{
	CLEANUP(fd_closep) int networks = -EBADF;
	struct error ignored;

	for (size_t i = 0; i < 2; i++)
		if (n->subnets[i][0] && check_subnet(node, n->subnets[i], err) < 0)
			return error_wrap(err, "network '%s'", n->name);
	if (fd_open_dir_at(node->state_fd, NETWORKS, true, 0700, &networks, err) < 0 ||
	    write_folder(networks, n, err) < 0) {
		(void)remove_folder(node, FRESH, &ignored);
		return error_wrap(err, "network '%s'", n->name);
	}
	if (first_links(node, n, err) < 0) {
		(void)take_down(node, n->name, &ignored);
		return error_wrap(err, "network '%s'", n->name);
	}
	return 0;
}

/* One that can't be read might use it. */
static int find_users(const struct node *node, const char *name, char *buf, size_t size, struct error *err)
{
	char **names = NULL;
	size_t n = 0;

	if (container_list(node, &names, &n, err) < 0)
		return -err->code;
	buf[0] = '\0';
	for (size_t i = 0; i < n; i++) {
		CLEANUP(container_freep) struct container *c = NULL;
		struct error why;
		int r = container_open(node, names[i], &c, &why);
		size_t used = strlen(buf);

		if (r != -ENOENT && (r < 0 || !strcmp(c->spec->endpoint.network, name)))
			(void)snprintf(buf + used, size - used, "%s%s", used ? ", " : "", names[i]);
	}
	fd_list_free(names, n);
	return 0;
}

int named_network_remove(const struct node *node, const char *name, struct error *err)
{
	CLEANUP(fd_closep) int dir = -EBADF, lock = -EBADF;
	char users[256];

	if (named_network_open(node, name, &dir, err) < 0 || named_network_lock(dir, &lock, err) < 0 ||
	    find_users(node, name, users, sizeof(users), err) < 0)
		return -err->code;
	if (*users)
		return error_set(err, EBUSY, "network '%s' is used by %s; remove these containers first", name, users);
	return take_down(node, name, err) < 0 ? error_wrap(err, "network '%s'", name) : 0;
}

/* ---- what follows from the record ---- */

static uint32_t parts(const struct named_network *n)
{
	uint32_t k = 1;

	while (k < n->n_members)
		k *= 2;
	return k;
}

int named_network_range(const struct named_network *n, size_t i, char ret[NETWORK_CIDR_MAX], struct error *err)
{
	return network_subnet_part(n->subnets[i], (uint32_t)n->index, parts(n), ret, err);
}

int named_network_gateway(const struct named_network *n, size_t i, char ret[NETWORK_CIDR_MAX], struct error *err)
{
	return network_address_nth(n->subnets[i], "", "", 0, ret, err);
}
