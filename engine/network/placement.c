#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "engine/network/hosts.h"
#include "engine/network/network_vxlan.h"
#include "engine/network/placement.h"

#define AWAY "away-"
#define SEQUENCE "sequence"

/* One network, looked at under its lock. */
struct view {
	const struct node *node;
	const struct named_network *network;
	int dir, lock;
	struct places claims[NAMED_NETWORK_MEMBERS_MAX];
};
#define VIEW(node_, network_) { .node = node_, .network = network_, .dir = -EBADF, .lock = -EBADF }

static void view_close(struct view *v)
{
	for (size_t i = 0; i < NAMED_NETWORK_MEMBERS_MAX; i++)
		places_free(&v->claims[i]);
	fd_close(&v->lock);
	fd_close(&v->dir);
}

static size_t n_members(const struct view *v)
{
	return v->network->n_members ? v->network->n_members : 1;
}

static void places_file(size_t member, char ret[32])
{
	(void)snprintf(ret, 32, "places-%u.json", (unsigned)member);
}

static int read_places(const struct view *v, const char *file, struct places *ret, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	size_t len;
	int r = fd_read_file_at(v->dir, file, PLACES_JSON_LIMIT, &text, &len, err);

	if (r == 0)
		r = places_parse(text, len, v->network, ret, err);
	return r < 0 && r != -ENOENT ? error_wrap(err, "network '%s': %s", v->network->name, file) : r;
}

/* ---- what this node claims ---- */

static void place_of(const struct container *c, const struct container_state *st, struct place *ret)
{
	const struct network_endpoint *ep = &c->spec->endpoint;

	*ret = (struct place){ .created_us = c->spec->created_us, .moves = st->migrations,
			       .live = container_status_is_live(st->status) };
	memcpy(ret->name, c->name, sizeof(ret->name));
	memcpy(ret->address[0], ep->address, sizeof(ret->address[0]));
	memcpy(ret->address[1], ep->address2, sizeof(ret->address[1]));
	memcpy(ret->mac, ep->mac, sizeof(ret->mac));
}

/* One that is on its way here is claimed by the node that it comes from. */
static int add_container(struct view *v, const char *name, struct places *to, struct error *err)
{
	CLEANUP(container_freep) struct container *c = NULL;
	struct container_state st;
	struct error ignored;
	struct place p;

	if (container_open(v->node, name, &c, &ignored) < 0 ||
	    strcmp(c->spec->endpoint.network, v->network->name) != 0 || container_state(c, &st, &ignored) < 0 ||
	    st.status == CONTAINER_INCOMING)
		return 0;
	place_of(c, &st, &p);
	return places_add(to, &p, err);
}

/* Those that have left, as long as nobody claims them. */
static int add_away(struct view *v, const char *file, struct places *to, struct error *err)
{
	CLEANUP(places_free) struct places note = { 0 };
	int r = read_places(v, file, &note, err);

	for (size_t i = 0; r == 0 && i < note.n; i++)
		r = places_add(to, &note.list[i], err);
	return r == -ENOENT ? 0 : r;
}

static int for_files(struct view *v, int (*fn)(struct view *v, const char *file, struct places *to, struct error *err),
		     struct places *to, struct error *err)
{
	char **files = NULL;
	size_t n = 0;
	int r = fd_list_at(v->dir, ".", &files, &n, err);

	for (size_t i = 0; r == 0 && i < n; i++)
		if (!strncmp(files[i], AWAY, strlen(AWAY)))
			r = fn(v, files[i], to, err);
	fd_list_free(files, n);
	return r;
}

static int claim_own(struct view *v, struct places *ret, struct error *err)
{
	char **names = NULL;
	size_t n = 0;
	int r = container_list(v->node, &names, &n, err);

	for (size_t i = 0; r == 0 && i < n; i++)
		r = add_container(v, names[i], ret, err);
	fd_list_free(names, n);
	return r == 0 ? for_files(v, add_away, ret, err) : r;
}

static int view_open(struct view *v, struct error *err)
{
	if (named_network_open(v->node, v->network->name, &v->dir, err) < 0 ||
	    named_network_lock(v->dir, &v->lock, err) < 0 ||
	    claim_own(v, &v->claims[v->network->index], err) < 0)
		return -err->code;
	for (size_t i = 0; i < n_members(v); i++) {
		char file[32];
		int r;

		if (i == v->network->index)
			continue;
		places_file(i, file);
		r = read_places(v, file, &v->claims[i], err);
		if (r < 0 && r != -ENOENT)
			return r;
	}
	return 0;
}

static int merge(const struct view *v, struct places *ret, struct error *err)
{
	return places_merge(v->claims, n_members(v), ret, err);
}

/* ---- forwarding ---- */

struct links {
	char bridge[IFNAMSIZ], vxlan[IFNAMSIZ];
};

static struct network_remote remote_of(const struct view *v, const struct links *l, const struct place *p)
{
	return (struct network_remote){ .vxlan = l->vxlan, .bridge = l->bridge, .mac = p->mac,
					.addresses = { p->address[0], p->address[1] },
					.node = v->network->members[p->member].address };
}

/* While it arrives, or something stands in for it after it has left, its MAC has a port here. */
static bool has_port_here(const struct view *v, const struct place *p)
{
	const struct places *own = &v->claims[v->network->index];
	struct container c = { .node = v->node };
	char ifname[IFNAMSIZ];

	memcpy(c.name, p->name, sizeof(c.name));
	container_stand_in_ifname(&c, ifname);
	if (if_nametoindex(ifname))
		return true;
	for (size_t i = 0; i < own->n; i++)	/* another of the same name */
		if (!strcmp(own->list[i].name, p->name) && memcmp(own->list[i].mac, p->mac, 6) != 0)
			return false;
	container_host_ifname(&c, ifname);
	return if_nametoindex(ifname) != 0;
}

static bool is_remote(const struct view *v, const struct place *p)
{
	return p->live && p->member != v->network->index;
}

static bool is_remote_in(const struct view *v, const struct places *all, const uint8_t mac[6])
{
	for (size_t i = 0; i < all->n; i++)
		if (memcmp(all->list[i].mac, mac, 6) == 0)
			return is_remote(v, &all->list[i]);
	return false;
}

static int forward(const struct view *v, const struct places *before, const struct places *now, struct error *err)
{
	struct links l;

	if (v->network->driver != NAMED_NETWORK_VXLAN)
		return 0;
	named_network_bridge(v->node, v->network->name, l.bridge);
	named_network_vxlan(v->node, v->network->name, l.vxlan);
	for (size_t i = 0; i < now->n; i++) {
		const struct network_remote r = remote_of(v, &l, &now->list[i]);

		if (is_remote(v, &now->list[i]) &&
		    network_remote_set(&r, !has_port_here(v, &now->list[i]), err) < 0)
			return -err->code;
	}
	for (size_t i = 0; i < before->n; i++) {
		const struct network_remote r = remote_of(v, &l, &before->list[i]);

		if (is_remote(v, &before->list[i]) && !is_remote_in(v, now, before->list[i].mac) &&
		    network_remote_remove(&r, err) < 0)
			return -err->code;
	}
	return 0;
}

/* ---- names ---- */

static int hosts_text(const struct places *all, char **ret, struct error *err)
{
	CLEANUP(file_closep) FILE *f = NULL;
	size_t size;

	f = open_memstream(ret, &size);
	if (!f)
		return error_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < all->n; i++)
		for (size_t k = 0; all->list[i].live && k < 2 && all->list[i].address[k][0]; k++)
			fprintf(f, "%.*s\t%s\n", (int)strcspn(all->list[i].address[k], "/"),
				all->list[i].address[k], all->list[i].name);
	return 0;
}

/* One whose files are just being taken along gets them where it arrives. */
static void tell_names(const struct view *v, const char *text)
{
	const struct places *own = &v->claims[v->network->index];

	for (size_t i = 0; i < own->n; i++) {
		CLEANUP(container_freep) struct container *c = NULL;
		struct container_state st;
		struct error ignored;

		if (own->list[i].live && container_open(v->node, own->list[i].name, &c, &ignored) == 0 &&
		    container_state(c, &st, &ignored) == 0 && st.alive &&
		    (st.status == CONTAINER_RUNNING || st.status == CONTAINER_PAUSED))
			(void)hosts_update(st.pid, text, &ignored);
	}
}

/* What follows from all claims, now that those before are no more. */
static int apply(const struct view *v, const struct places *before, struct error *err)
{
	CLEANUP(places_free) struct places now = { 0 };
	CLEANUP(freep) char *text = NULL;

	if (merge(v, &now, err) < 0 || forward(v, before, &now, err) < 0 || hosts_text(&now, &text, err) < 0)
		return -err->code;
	tell_names(v, text);
	return 0;
}

/* True when its new node claims it, it is back, or its address has got another container. */
static bool is_claimed(const struct view *v, const struct place *away)
{
	for (size_t m = 0; m < n_members(v); m++) {
		const struct place *other = places_find(&v->claims[m], away->address[0]);

		if (other && place_is_newer(other, away))
			return true;
	}
	return false;
}

static int forget_away(struct view *v, const char *file, struct places *unused, struct error *err)
{
	CLEANUP(places_free) struct places note = { 0 };
	int r = read_places(v, file, &note, err);

	(void)unused;
	if (r == 0 && note.n && is_claimed(v, &note.list[0]) && unlinkat(v->dir, file, 0) < 0)
		return error_set(err, errno, "remove %s: %s", file, strerror(errno));
	return r;
}

int placement_refresh(const struct node *node, const char *network, struct error *err)
{
	static const struct places none;
	struct named_network n;
	CLEANUP(view_close) struct view v = VIEW(node, &n);

	if (named_network_load(node, network, &n, err) < 0 || view_open(&v, err) < 0 ||
	    named_network_links_up(node, &n, err) < 0 || apply(&v, &none, err) < 0)
		return -err->code;
	return for_files(&v, forget_away, NULL, err);
}

int placement_hosts(const struct node *node, const char *network, char **ret_text, struct error *err)
{
	CLEANUP(places_free) struct places all = { 0 };
	struct named_network n;

	if (named_network_load(node, network, &n, err) < 0 || placement_all(node, &n, &all, err) < 0)
		return -err->code;
	return hosts_text(&all, ret_text, err);
}

int placement_all(const struct node *node, const struct named_network *n, struct places *ret, struct error *err)
{
	CLEANUP(view_close) struct view v = VIEW(node, n);

	return view_open(&v, err) < 0 ? -err->code : merge(&v, ret, err);
}

/* ---- what is said and heard ---- */

/* Higher than the last one, also when that is lost or the clock goes back. */
static int next_sequence(const struct view *v, uint64_t *ret, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	struct error ignored;
	uint64_t last = 0, now = clock_real_us();
	char number[24];

	if (fd_read_file_at(v->dir, SEQUENCE, sizeof(number), &text, NULL, &ignored) == 0)
		last = strtoull(text, NULL, 10);
	*ret = last >= now ? last + 1 : now;
	(void)snprintf(number, sizeof(number), "%llu", (unsigned long long)*ret);
	return fd_replace_file_at(v->dir, SEQUENCE, number, strlen(number), 0600, FD_REPLACE, err);
}

int placement_own(const struct node *node, const struct named_network *n, struct places *ret, struct error *err)
{
	CLEANUP(view_close) struct view v = VIEW(node, n);

	if (view_open(&v, err) < 0)
		return -err->code;
	*ret = v.claims[n->index];
	v.claims[n->index] = (struct places){ 0 };
	return 0;
}

int placement_say(const struct node *node, const struct named_network *n, struct places *ret, struct error *err)
{
	CLEANUP(view_close) struct view v = VIEW(node, n);
	struct places *own = &v.claims[n->index];

	if (view_open(&v, err) < 0 || next_sequence(&v, &own->sequence, err) < 0)
		return -err->code;
	*ret = *own;
	*own = (struct places){ 0 };
	return 0;
}

static int keep(struct view *v, size_t member, const struct places *fresh, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	char file[32];

	places_file(member, file);
	if (places_format(fresh, &text, err) < 0)
		return -err->code;
	return fd_replace_file_at(v->dir, file, text, strlen(text), 0600, FD_REPLACE_DURABLE, err);
}

int placement_hear(const struct node *node, const struct named_network *n, size_t member, const char *text,
		   size_t len, struct error *err)
{
	CLEANUP(places_free) struct places fresh = { 0 };
	CLEANUP(places_free) struct places before = { 0 };
	CLEANUP(view_close) struct view v = VIEW(node, n);
	int r;

	if (member >= n->n_members || member == n->index)
		return error_set(err, EINVAL, "network '%s' has no other node with index %zu", n->name, member);
	if (places_parse(text, len, n, &fresh, err) < 0 || view_open(&v, err) < 0)
		return -err->code;
	if (fresh.sequence <= v.claims[member].sequence)
		return 0;
	if (merge(&v, &before, err) < 0)
		return -err->code;
	places_free(&v.claims[member]);
	v.claims[member] = fresh;
	r = apply(&v, &before, err);
	if (r == 0)
		r = keep(&v, member, &fresh, err);
	if (r == 0)
		r = for_files(&v, forget_away, NULL, err);
	fresh = (struct places){ 0 };	/* the view's */
	return r;
}

int placement_leave(const struct container *c, struct error *err)
{
	const char *network = c->spec->endpoint.network;
	CLEANUP(fd_closep) int dir = -EBADF, lock = -EBADF;
	CLEANUP(freep) char *text = NULL;
	struct container_state st;
	struct place p;
	struct places note = { .list = &p, .n = 1 };
	char file[NAME_MAX + 1];

	if (!network[0] || faccessat(c->dir_fd, "state.json", F_OK, 0) < 0)
		return 0;	/* its removal began before, and then this was done */
	if (container_state(c, &st, err) < 0)
		return -err->code;
	place_of(c, &st, &p);
	p.live = false;
	(void)snprintf(file, sizeof(file), AWAY "%s.json", c->name);
	if (places_format(&note, &text, err) < 0 || named_network_open(c->node, network, &dir, err) < 0 ||
	    named_network_lock(dir, &lock, err) < 0 ||
	    fd_replace_file_at(dir, file, text, strlen(text), 0600, FD_REPLACE_DURABLE, err) < 0)
		return error_wrap(err, "keep its addresses");
	return 0;
}
