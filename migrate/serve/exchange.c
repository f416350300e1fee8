#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "engine/network/network_vxlan.h"
#include "engine/network/placement.h"
#include "migrate/channel/host.h"
#include "migrate/serve/exchange.h"

#define CONNECT_US 3000000u
#define PATIENCE_US 10000000u
#define UNDERLAY4_BYTES 50u		/* IPv4, UDP, VXLAN and the inner Ethernet header: RFC 7348 */
#define UNDERLAY6_BYTES 70u

static int say_places(const struct node *node, struct channel *ch, const struct named_network *n, struct error *err)
{
	CLEANUP(places_free) struct places own = { 0 };
	CLEANUP(freep) char *text = NULL;
	struct message m = { .type = WIRE_PLACES, .places = { .network = n->name, .member = (uint32_t)n->index } };

	if (placement_say(node, n, &own, err) < 0 || places_format(&own, &text, err) < 0)
		return -err->code;
	m.places.places_json = text;
	return channel_send(ch, &m, err);
}

static int hear_places(const struct node *node, const struct named_network *n, const struct channel_peer *peer,
		       const struct message_places *said, struct error *err)
{
	if (strcmp(said->network, n->name) != 0 || said->member >= n->n_members ||
	    strcmp(n->members[said->member].id, peer->id) != 0)
		return error_set(err, EPERM, "%s (id %s) is not node %u of network '%s' as %s knows it", peer->name,
				 peer->id, said->member, n->name, node->config.name);
	return placement_hear(node, n, said->member, said->places_json, strlen(said->places_json), err);
}

/* ---- whoever makes a network ---- */

void exchange_peers_closep(struct exchange_peers *p)
{
	for (size_t i = 0; i < p->n; i++)
		channel_free(p->channels[i]);
}

static int name_of(int fd, bool peer, char ret[64], struct error *err)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	int r = (peer ? getpeername : getsockname)(fd, (struct sockaddr *)&a, &len);

	if (r < 0 || getnameinfo((struct sockaddr *)&a, len, ret, 64, NULL, 0, NI_NUMERICHOST))
		return error_set(err, EADDRNOTAVAIL, "an end of the connection has no address");
	/* One of IPv4 on a socket of both. */
	if (!strncmp(ret, "::ffff:", 7) && strchr(ret, '.'))
		memmove(ret, ret + 7, strlen(ret + 7) + 1);
	return 0;
}

/* "10.88.0.2", with the port when it is not the usual one. */
static void write_address(const char *address, const char *port, char ret[80])
{
	bool v6 = strchr(address, ':') != NULL;

	if (strtoul(port, NULL, 10) == WIRE_DEFAULT_PORT)
		(void)snprintf(ret, 80, "%.60s", address);
	else
		(void)snprintf(ret, 80, v6 ? "[%.56s]:%.12s" : "%.60s:%.12s", address, port);
}

static uint32_t mtu_to(int fd, const char *address)
{
	bool v6 = strchr(address, ':') != NULL;
	socklen_t len = sizeof(int);
	int mtu = 1500;

	(void)getsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_MTU : IP_MTU, &mtu, &len);
	return (uint32_t)mtu - (v6 ? UNDERLAY6_BYTES : UNDERLAY4_BYTES);
}

static int meet(const struct node *node, const char *text, struct exchange_peers *peers, struct named_network *n,
		uint32_t *mtu, struct error *err)
{
	struct named_network_member *m = &n->members[n->n_members];
	struct channel_peer peer;
	char host[256], port[16], address[64];
	struct channel *ch;
	int fd;

	if (host_split(text, host, port, err) < 0 || channel_connect_within(node, text, CONNECT_US, NULL, &ch, err) < 0)
		return -err->code;
	peers->channels[peers->n++] = ch;
	fd = channel_fd(ch);
	if (channel_greet(ch, node->config.name, node->id, &peer, err) < 0 || name_of(fd, true, address, err) < 0)
		return error_wrap(err, "%s", text);
	channel_set_patience(ch, PATIENCE_US);
	write_address(address, port, m->address);
	memcpy(m->id, peer.id, sizeof(m->id));
	n->n_members++;
	if (mtu_to(fd, address) < *mtu)
		*mtu = mtu_to(fd, address);
	if (!n->members[0].address[0]) {
		(void)snprintf(port, sizeof(port), "%d", WIRE_DEFAULT_PORT);
		if (name_of(fd, false, address, err) < 0)
			return -err->code;
		write_address(address, port, n->members[0].address);
	}
	return 0;
}

int exchange_meet(const struct node *node, const char *const *hosts, size_t n_hosts, const char *own_address,
		  struct exchange_peers *peers, struct named_network *n, struct error *err)
{
	uint32_t mtu = UINT16_MAX;

	n->index = 0;
	n->n_members = 1;
	memcpy(n->members[0].id, node->id, sizeof(n->members[0].id));
	if (n_hosts + 1 > NAMED_NETWORK_MEMBERS_MAX)
		return error_set(err, E2BIG, "more than %d nodes", NAMED_NETWORK_MEMBERS_MAX);
	if (own_address)
		(void)snprintf(n->members[0].address, sizeof(n->members[0].address), "%s", own_address);
	for (size_t i = 0; i < n_hosts; i++)
		if (meet(node, hosts[i], peers, n, &mtu, err) < 0)
			return -err->code;
	n->mtu = n->mtu ? n->mtu : mtu;
	return 0;
}

static int tell_network(struct channel *ch, const struct named_network *n, size_t index, bool remove, struct error *err)
{
	struct message m = { .type = WIRE_NETWORK, .network = { .name = n->name, .remove = remove } }, answer = { 0 };
	struct named_network theirs = *n;
	CLEANUP(freep) char *text = NULL;

	theirs.index = index;
	if (named_network_format(&theirs, &text, err) < 0)
		return -err->code;
	m.network.record_json = text;
	if (channel_send(ch, &m, err) < 0 || channel_receive(ch, WIRE_PLACES, &answer, err) < 0)
		return error_wrap(err, "%s", n->members[index].address);
	message_free(&answer);
	return 0;
}

static void unmake(struct exchange_peers *peers, const struct named_network *n, size_t first)
{
	struct error ignored;

	for (size_t i = 0; i < first; i++)
		(void)tell_network(peers->channels[i], n, i + 1, true, &ignored);
}

int exchange_make(struct exchange_peers *peers, const struct named_network *n, struct error *err)
{
	for (size_t i = 0; i < peers->n; i++)
		if (tell_network(peers->channels[i], n, i + 1, false, err) < 0) {
			unmake(peers, n, i);
			return -err->code;
		}
	return 0;
}

void exchange_unmake(struct exchange_peers *peers, const struct named_network *n)
{
	unmake(peers, n, peers->n);
}

static int reach(const struct node *node, const struct named_network *n, size_t member, struct channel **ret,
		 struct channel_peer *ret_peer, struct error *err)
{
	CLEANUP(channel_freep) struct channel *ch = NULL;
	struct channel_peer peer;

	if (channel_connect_within(node, n->members[member].address, CONNECT_US, NULL, &ch, err) < 0 ||
	    channel_greet(ch, node->config.name, node->id, &peer, err) < 0)
		return -err->code;
	if (strcmp(peer.id, n->members[member].id) != 0)
		return error_set(err, EADDRNOTAVAIL, "%s is node '%s' (id %s) now, which is not on network '%s'",
				 n->members[member].address, peer.name, peer.id, n->name);
	channel_set_patience(ch, PATIENCE_US);
	*ret_peer = peer;
	*ret = TAKE_PTR(ch);
	return 0;
}

static int remove_here(const struct node *node, const struct named_network *n, struct error *err)
{
	CLEANUP(fd_closep) int lock = -EBADF;

	return node_lock(node, &lock, err) < 0 ? -err->code : named_network_remove(node, n->name, err);
}

/* A conversation ends with a refusal, so each is asked over one of its own. */
static void make_again(const struct node *node, const struct named_network *n, size_t first)
{
	struct error ignored;

	for (size_t i = 0; i < first; i++) {
		CLEANUP(channel_freep) struct channel *ch = NULL;
		struct channel_peer peer;

		if (i != n->index && reach(node, n, i, &ch, &peer, &ignored) == 0)
			(void)tell_network(ch, n, i, false, &ignored);
	}
}

int exchange_remove(const struct node *node, const struct named_network *n, struct error *err)
{
	CLEANUP(exchange_peers_closep) struct exchange_peers peers = { .n = 0 };
	struct channel_peer peer;
	size_t done = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < n->n_members; i++, peers.n++)
		r = i == n->index ? 0 : reach(node, n, i, &peers.channels[i], &peer, err);
	for (; r == 0 && done < n->n_members; done++)
		r = done == n->index ? 0 : tell_network(peers.channels[done], n, done, true, err);
	if (r == 0)
		r = remove_here(node, n, err);
	if (r < 0)
		make_again(node, n, done);
	return r;
}

/* ---- daemons ---- */

int exchange_places(const struct node *node, const struct named_network *n, size_t member, struct error *err)
{
	CLEANUP(channel_freep) struct channel *ch = NULL;
	struct channel_peer peer;
	struct message m = { 0 };
	int r;

	if (reach(node, n, member, &ch, &peer, err) < 0 ||
	    say_places(node, ch, n, err) < 0 || channel_receive(ch, WIRE_PLACES, &m, err) < 0)
		return -err->code;
	r = hear_places(node, n, &peer, &m.places, err);
	message_free(&m);
	return r;
}

static bool is_member(const struct named_network *n, const char *id)
{
	for (size_t i = 0; i < n->n_members; i++)
		if (!strcmp(n->members[i].id, id))
			return true;
	return false;
}

/* The same again is no error: whoever makes it may have been cut off half-way. */
static int make_here(const struct node *node, const struct named_network *n, bool remove, struct error *err)
{
	CLEANUP(fd_closep) int lock = -EBADF;
	struct named_network old;
	int r;

	if (node_lock(node, &lock, err) < 0)
		return -err->code;
	r = named_network_load(node, n->name, &old, err);
	if (r == 0 && !(named_network_same(&old, n) && old.index == n->index))
		return error_set(err, EEXIST, "another network '%s' is on %s; remove it there first", n->name,
				 node->config.name);
	if (remove)
		return r == 0 ? named_network_remove(node, n->name, err) : 0;
	return r == -ENOENT ? named_network_create(node, n, err) : r;
}

static int answer_network(const struct node *node, struct channel *ch, const struct channel_peer *peer,
			  const struct message_network *said, struct error *err)
{
	struct message m = { .type = WIRE_PLACES, .places = { .network = said->name,
							      .places_json = "{\"sequence\":0,\"places\":[]}" } };
	struct named_network n;

	if (named_network_parse(said->record_json, strlen(said->record_json), &n, err) < 0)
		return -err->code;
	if (strcmp(n.name, said->name) != 0 || n.driver != NAMED_NETWORK_VXLAN || !is_member(&n, peer->id) ||
	    strcmp(n.members[n.index].id, node->id) != 0)
		return error_set(err, EPERM, "network '%s' of %s is none that %s is a node of", said->name, peer->name,
				 node->config.name);
	m.places.member = (uint32_t)n.index;
	return make_here(node, &n, said->remove, err) < 0 ? -err->code : channel_send(ch, &m, err);
}

static int answer_places(const struct node *node, struct channel *ch, const struct channel_peer *peer,
			 const struct message_places *said, struct error *err)
{
	struct named_network n;

	if (named_network_load(node, said->network, &n, err) < 0 ||
	    hear_places(node, &n, peer, said, err) < 0)
		return -err->code;
	return say_places(node, ch, &n, err);
}

int exchange_answer(const struct node *node, struct channel *ch, const struct channel_peer *peer,
		    const struct message *first, struct error *err)
{
	const struct message *m = first;
	struct message next = { 0 };
	struct error ended;
	int r = 0;

	do {
		r = m->type == WIRE_NETWORK ? answer_network(node, ch, peer, &m->network, err) :
					      answer_places(node, ch, peer, &m->places, err);
		message_free(&next);
		m = &next;
	} while (r == 0 && channel_receive(ch, 0, &next, &ended) == 0);
	if (r < 0)
		channel_abort(ch, err, "nothing was changed");
	return r;
}
