#include <fcntl.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/network/nat.h"
#include "engine/network/network_address.h"
#include "engine/network/nftables.h"

#define TABLE "inet godwit"

struct text {
	char *data;
	size_t size;
	FILE *file;
};

static void text_closep(struct text *t)
{
	if (t->file)
		(void)fclose(t->file);
	free(t->data);
}

static int text_open(struct text *t, struct error *err)
{
	t->file = open_memstream(&t->data, &t->size);
	return t->file ? 0 : error_set(err, ENOMEM, "out of memory");
}

static int text_run(struct text *t, char **ret, struct error *err)
{
	if (fflush(t->file) != 0)
		return error_set(err, ENOMEM, "out of memory");
	return nftables_run(t->data, ret, err);
}

/* Who changes the table: the namespace's own file is the lock. */
static int lock_table(int *ret_fd, struct error *err)
{
	CLEANUP(fd_closep) int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || flock(fd, LOCK_EX) < 0)
		return error_set(err, errno, "lock the table of published ports: %s", strerror(errno));
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static bool is_v6(const struct network_endpoint *ep)
{
	return strchr(ep->address, ':') != NULL;
}

static char family_digit(const struct network_endpoint *ep)
{
	return is_v6(ep) ? '6' : '4';
}

static void host_of(const struct network_endpoint *ep, char ret[NETWORK_CIDR_MAX])
{
	(void)snprintf(ret, NETWORK_CIDR_MAX, "%.*s", (int)strcspn(ep->address, "/"), ep->address);
}

/* Its second address, as an endpoint with nothing published. */
static bool second_face(const struct network_endpoint *ep, struct network_endpoint *ret)
{
	if (!ep->address2[0] || !ep->behind_node)
		return false;
	*ret = (struct network_endpoint){ .behind_node = true };
	memcpy(ret->address, ep->address2, sizeof(ret->address));
	memcpy(ret->bridge, ep->bridge, sizeof(ret->bridge));
	return true;
}

static bool is_needed(const struct network_endpoint *ep)
{
	return ep->bridge[0] && (ep->n_ports || ep->behind_node);
}

/* ---- the table ---- */

static const char *const not_local[] = { "", "ip daddr != 127.0.0.0/8 ", "ip6 daddr != ::1 " };

/* Everything but elements; all of it may be there already. */
static void put_table(FILE *f)
{
	static const struct {
		const char *name, *hook, *priority;
	} chains[] = { { "prerouting", "prerouting", "dstnat" }, { "output", "output", "-100" },
		       { "postrouting", "postrouting", "srcnat" } };
	static const struct {
		char digit;
		const char *type, *ip;
	} families[] = { { '4', "ipv4_addr", "ip" }, { '6', "ipv6_addr", "ip6" } };

	fprintf(f, "add table " TABLE "\n");
	for (size_t i = 0; i < 3; i++)
		fprintf(f, "add chain " TABLE " %s { type nat hook %s priority %s ; }\nflush chain " TABLE " %s\n",
			chains[i].name, chains[i].hook, chains[i].priority, chains[i].name);
	for (size_t i = 0; i < 2; i++) {
		const char *type = families[i].type, *ip = families[i].ip;
		char d = families[i].digit;

		fprintf(f, "add map " TABLE " ports%c { type inet_proto . inet_service : %s . inet_service ; }\n"
			"add map " TABLE " ports_at%c { type %s . inet_proto . inet_service : %s . inet_service ; }\n"
			"add set " TABLE " inside%c { type %s ; }\n"
			"add set " TABLE " subnets%c { type %s ; flags interval ; }\n",
			d, type, d, type, type, d, type, d, type);
		for (size_t c = 0; c < 2; c++) {
			const char *guard = not_local[c ? i + 1 : 0];

			fprintf(f, "add rule " TABLE " %s %sdnat %s to %s daddr . meta l4proto . th dport "
				"map @ports_at%c\n", chains[c].name, guard, ip, ip, d);
			fprintf(f, "add rule " TABLE " %s %smeta nfproto ipv%c fib daddr type local dnat %s to "
				"meta l4proto . th dport map @ports%c\n", chains[c].name, guard, d, ip, d);
		}
		fprintf(f, "add rule " TABLE " postrouting %s saddr @inside%c %s daddr != @subnets%c masquerade\n",
			ip, d, ip, d);
	}
	fprintf(f, "add set " TABLE " bridges { type ifname ; }\n"
		"add rule " TABLE " postrouting ct status dnat oifname @bridges masquerade\n");
}

/* These stay until the table goes. */
static void put_network(FILE *f, const struct network_endpoint *ep)
{
	fprintf(f, "add element " TABLE " bridges { \"%s\" }\n", ep->bridge);
	if (strchr(ep->address, '/'))
		fprintf(f, "add element " TABLE " subnets%c { %s }\n", family_digit(ep), ep->address);
}

static void put_port(FILE *f, const char *verb, const struct network_endpoint *ep, const struct port *p,
		     bool with_target)
{
	char host[NETWORK_CIDR_MAX];

	host_of(ep, host);
	fprintf(f, "%s element " TABLE " ports%s%c { %s%s%s . %u", verb, p->address[0] ? "_at" : "",
		family_digit(ep), p->address, p->address[0] ? " . " : "", port_protocol(p), p->node);
	if (with_target)
		fprintf(f, " : %s . %u", host, p->container);
	fprintf(f, " }\n");
}

static void put_inside(FILE *f, const char *verb, const struct network_endpoint *ep)
{
	char host[NETWORK_CIDR_MAX];

	host_of(ep, host);
	fprintf(f, "%s element " TABLE " inside%c { %s }\n", verb, family_digit(ep), host);
}

/* ---- what is in it ---- */

/* An element as JSON: a value alone, or [key, value] of a map, where what is put
 * together is {"concat": [...]}. */
static json_t *part(json_t *concat, size_t i)
{
	return json_array_get(json_object_get(concat, "concat"), i);
}

static bool is_element(json_t *element, const struct network_endpoint *ep, const struct port *p, bool *ret_ours)
{
	json_t *key = json_array_get(element, 0), *value = json_array_get(element, 1);
	size_t at = p->address[0] ? 1 : 0;
	const char *protocol = json_string_value(part(key, at));
	char host[NETWORK_CIDR_MAX];
	const char *to;

	if (!protocol || strcmp(protocol, port_protocol(p)) != 0 ||
	    json_integer_value(part(key, at + 1)) != p->node)
		return false;
	if (at && strcmp(json_string_value(part(key, 0)) ?: "", p->address) != 0)
		return false;
	host_of(ep, host);
	to = json_string_value(part(value, 0));
	*ret_ours = to && !strcmp(to, host) && json_integer_value(part(value, 1)) == p->container;
	return true;
}

static json_t *find_list(json_t *root, const char *name)
{
	json_t *list = json_object_get(root, "nftables"), *item;
	size_t i;

	json_array_foreach(list, i, item) {
		json_t *it = json_object_get(item, "map") ?: json_object_get(item, "set");

		if (it && !strcmp(json_string_value(json_object_get(it, "name")) ?: "", name))
			return json_object_get(it, "elem");
	}
	return NULL;
}

/* 0: nobody has it, 1: this endpoint, 2: another. */
static int who_has(json_t *root, const struct network_endpoint *ep, const struct port *p)
{
	char name[] = "ports_at4";
	json_t *list, *element;
	bool ours;
	size_t i;

	name[8] = family_digit(ep);
	if (!p->address[0]) {
		name[5] = family_digit(ep);
		name[6] = '\0';
	}
	list = find_list(root, name);
	json_array_foreach(list, i, element)
		if (is_element(element, ep, p, &ours))
			return ours ? 1 : 2;
	return 0;
}

static bool is_inside(json_t *root, const struct network_endpoint *ep)
{
	char name[] = "inside4", host[NETWORK_CIDR_MAX];
	json_t *element;
	size_t i;

	name[6] = family_digit(ep);
	host_of(ep, host);
	json_array_foreach(find_list(root, name), i, element)
		if (!strcmp(json_string_value(element) ?: "", host))
			return true;
	return false;
}

static bool is_of_networks(json_t *set)
{
	const char *name = json_string_value(json_object_get(set, "name")) ?: "";

	return !strcmp(name, "bridges") || !strncmp(name, "subnets", 7);
}

/* How many elements of containers all maps and sets have. */
static size_t count(json_t *root)
{
	json_t *list = json_object_get(root, "nftables"), *item;
	size_t i, n = 0;

	json_array_foreach(list, i, item) {
		json_t *it = json_object_get(item, "map") ?: json_object_get(item, "set");

		n += is_of_networks(it) ? 0 : json_array_size(json_object_get(it, "elem"));
	}
	return n;
}

/* NULL in *ret when there is no such table. */
static int list_table(json_t **ret, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	json_error_t je;
	int r = nftables_run("list table " TABLE "\n", &text, err);

	*ret = NULL;
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	*ret = json_loads(text, 0, &je);
	return *ret ? 0 : error_set(err, EPROTO, "nftables: what it lists is no JSON: %s", je.text);
}

static int refuse(const struct port *p, struct error *err)
{
	char text[PORT_TEXT_MAX];

	port_format(p, text);
	return error_set(err, EADDRINUSE, "port %u/%s of this node is published by another container (-p %s); "
			 "choose another, or remove that container", p->node, port_protocol(p), text);
}

static int check_free(json_t *root, const struct network_endpoint *ep, struct error *err)
{
	for (size_t i = 0; i < ep->n_ports; i++)
		if (ep->ports[i].address[0] && (strchr(ep->ports[i].address, ':') != NULL) != is_v6(ep))
			return error_set(err, EINVAL, "the container has the address %s, so %s can't lead to it",
					 ep->address, ep->ports[i].address);
	for (size_t i = 0; i < ep->n_ports; i++)
		if (who_has(root, ep, ep->ports + i) == 2)
			return refuse(ep->ports + i, err);
	return 0;
}

int nat_check_free(const struct network_endpoint *ep, struct error *err)
{
	CLEANUP(json_decrefp) json_t *root = NULL;

	if (!ep->n_ports)
		return 0;
	if (list_table(&root, err) < 0)
		return -err->code;
	return check_free(root, ep, err);
}

/* ---- attach and detach ---- */

static int forward(const struct network_endpoint *ep, struct error *err)
{
	const char *path = is_v6(ep) ? "/proc/sys/net/ipv6/conf/all/forwarding" : "/proc/sys/net/ipv4/ip_forward";

	return fd_write_file_at(AT_FDCWD, path, "1", err);
}

static void put_second(FILE *f, const struct network_endpoint *ep)
{
	struct error ignored;

	put_network(f, ep);
	put_inside(f, "add", ep);
	(void)forward(ep, &ignored);
}

int nat_attach(const struct network_endpoint *ep, struct error *err)
{
	CLEANUP(text_closep) struct text t = { 0 };
	CLEANUP(json_decrefp) json_t *root = NULL;
	CLEANUP(fd_closep) int lock = -EBADF;
	struct network_endpoint second;

	if (!is_needed(ep))
		return 0;
	if (lock_table(&lock, err) < 0 || list_table(&root, err) < 0 || check_free(root, ep, err) < 0 ||
	    text_open(&t, err) < 0)
		return -err->code;
	put_table(t.file);
	put_network(t.file, ep);
	for (size_t i = 0; i < ep->n_ports; i++)
		put_port(t.file, "add", ep, ep->ports + i, true);
	if (ep->behind_node)
		put_inside(t.file, "add", ep);
	if (second_face(ep, &second))
		put_second(t.file, &second);
	if (forward(ep, err) < 0 || text_run(&t, NULL, err) < 0)
		return error_wrap(err, "publish ports");
	return 0;
}

static size_t take_inside(FILE *f, json_t *root, const struct network_endpoint *ep)
{
	bool is = is_inside(root, ep);

	if (is)
		put_inside(f, "delete", ep);
	return is;
}

int nat_detach(const struct network_endpoint *ep, struct error *err)
{
	CLEANUP(text_closep) struct text t = { 0 };
	CLEANUP(json_decrefp) json_t *root = NULL;
	CLEANUP(fd_closep) int lock = -EBADF;
	struct network_endpoint second;
	size_t gone = 0;

	if (!ep->n_ports && !ep->behind_node)
		return 0;
	if (lock_table(&lock, err) < 0 || list_table(&root, err) < 0 || text_open(&t, err) < 0)
		return -err->code;
	if (!root)
		return 0;
	for (size_t i = 0; i < ep->n_ports; i++)
		if (who_has(root, ep, ep->ports + i) == 1) {
			put_port(t.file, "delete", ep, ep->ports + i, false);
			gone++;
		}
	if (ep->behind_node)
		gone += take_inside(t.file, root, ep);
	if (second_face(ep, &second))
		gone += take_inside(t.file, root, &second);
	if (gone == count(root))
		fprintf(t.file, "delete table " TABLE "\n");
	if (gone && text_run(&t, NULL, err) < 0)
		return error_wrap(err, "unpublish ports");
	return 0;
}
