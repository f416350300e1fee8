#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/base/fd.h"
#include "migrate/admission/movable_state.h"
#include "migrate/network/inet_diag.h"
#include "migrate/network/unaccepted.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

int look_open_diag(struct look *l, struct error *err)
{
	socklen_t len = sizeof(l->netns_cookie);

	if (inet_diag_open(l->init, &l->diag, err) < 0)
		return -err->code;
	if (getsockopt(l->diag, SOL_SOCKET, SO_NETNS_COOKIE, &l->netns_cookie, &len) < 0)
		l->netns_cookie = 0;	/* before Linux 5.14 */
	return 0;
}

static int option(int fd, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, name, &value, &len) < 0 ? -1 : value;
}

/* Of protocols that CRIU does not know. */
static bool is_unsupported_inet(int type, int protocol)
{
	return type != SOCK_RAW && protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != IPPROTO_UDPLITE;
}

static void check_kind(struct look *l, const struct moving_task *t, int fd, int socket)
{
	int family = option(socket, SO_DOMAIN), type = option(socket, SO_TYPE), protocol = option(socket, SO_PROTOCOL);

	switch (family) {
	case AF_INET:
	case AF_INET6:
		if (is_unsupported_inet(type, protocol))
			look_find(l, REASON_OBJECT_UNSUPPORTED, t->pid, fd, "a socket of the protocol %d%s", protocol,
				  protocol == IPPROTO_MPTCP ? " (MPTCP)" : protocol == IPPROTO_ICMP ? " (ICMP)" : "");
		break;
	case AF_UNIX:
	case AF_PACKET:
	case AF_NETLINK:
		break;
	default:
		look_find(l, REASON_OBJECT_UNSUPPORTED, t->pid, fd, "a socket of the address family %d%s", family,
			  family == AF_VSOCK ? " (vsock)" : "");
	}
}

static void note_unix(struct look *l, const struct moving_task *t, int fd, uint64_t inode)
{
	struct unix_end *u = look_grow((void **)&l->unixes, &l->n_unixes, sizeof(*u));

	if (u)
		*u = (struct unix_end){ .inode = inode, .pid = t->pid, .fd = fd };
}

void look_at_socket(struct look *l, const struct moving_task *t, int pidfd, int fd, uint64_t inode)
{
	CLEANUP(fd_closep) int socket = -EBADF;
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	socket = pidfd < 0 ? -EBADF : pidfd_getfd(pidfd, fd, 0);
	if (socket < 0)
		return;			/* closed meanwhile */
	if (l->netns_cookie && getsockopt(socket, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) == 0 &&
	    cookie != l->netns_cookie) {
		look_find(l, REASON_OBJECT_OUTSIDE, t->pid, fd, "a socket from outside of it");
		return;
	}
	check_kind(l, t, fd, socket);
	if (option(socket, SO_DOMAIN) == AF_UNIX)
		note_unix(l, t, fd, inode);
}

void look_at_queues(struct look *l)
{
	unsigned port;

	if (unaccepted_stuck(l->diag, &port))
		look_find(l, REASON_UNACCEPTED, l->init, -1, "connections to port %u that nobody has accepted", port);
}

/* ---- where local sockets lead to: sock_diag(7) ---- */

struct pair {
	uint32_t inode, peer;		/* 0: none */
};

struct pairs {
	struct pair *list;
	size_t n;
};

static void pairs_closep(struct pairs *p)
{
	free(p->list);
}

static void add_pair(struct pairs *pairs, struct nlmsghdr *h)
{
	const struct unix_diag_msg *m = NLMSG_DATA(h);
	const char *at = (const char *)(m + 1), *end = (const char *)h + h->nlmsg_len;
	struct pair *p = look_grow((void **)&pairs->list, &pairs->n, sizeof(*p));

	if (!p)
		return;
	p->inode = m->udiag_ino;
	while (end - at >= (ssize_t)sizeof(struct nlattr)) {
		struct nlattr a;

		memcpy(&a, at, sizeof(a));
		if (a.nla_len < sizeof(a) || a.nla_len > end - at)
			return;
		if (a.nla_type == UNIX_DIAG_PEER && a.nla_len >= sizeof(a) + sizeof(p->peer))
			memcpy(&p->peer, at + sizeof(a), sizeof(p->peer));
		at += NLA_ALIGN(a.nla_len) < end - at ? NLA_ALIGN(a.nla_len) : end - at;
	}
}

static bool ask_pairs(int diag)
{
	struct {
		struct nlmsghdr head;
		struct unix_diag_req request;
	} q = { .head = { .nlmsg_len = sizeof(q), .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			  .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.request = { .sdiag_family = AF_UNIX, .udiag_states = UINT32_MAX, .udiag_show = UDIAG_SHOW_PEER } };

	return send(diag, &q, sizeof(q), 0) == (ssize_t)sizeof(q);
}

/* Of all local sockets of the network namespace. */
static bool read_pairs(int diag, struct pairs *ret)
{
	_Alignas(struct nlmsghdr) char buffer[32768];

	if (!ask_pairs(diag))
		return false;
	for (;;) {
		ssize_t n = recv(diag, buffer, sizeof(buffer), 0);
		struct nlmsghdr *h = (struct nlmsghdr *)buffer;

		if (n <= 0)
			return false;
		for (unsigned len = (unsigned)n; NLMSG_OK(h, len); h = NLMSG_NEXT(h, len)) {
			if (h->nlmsg_type == NLMSG_DONE)
				return true;
			if (h->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
			    h->nlmsg_len < NLMSG_LENGTH(sizeof(struct unix_diag_msg)))
				return false;
			add_pair(ret, h);
		}
	}
}

static int compare(const void *a, const void *b)
{
	const struct unix_end *x = a, *y = b;

	return (x->inode > y->inode) - (x->inode < y->inode);
}

static const struct unix_end *find_unix(const struct look *l, uint64_t inode)
{
	const struct unix_end wanted = { .inode = inode };

	return bsearch(&wanted, l->unixes, l->n_unixes, sizeof(wanted), compare);
}

/* (The socket that accept(2) gives to a server outside is made in the namespace
 * of whoever connects: only who has it open tells where it is. One that was not
 * accepted yet has no inode.) */
void look_at_peers(struct look *l)
{
	CLEANUP(pairs_closep) struct pairs pairs = { 0 };

	if (!l->n_unixes || !read_pairs(l->diag, &pairs))
		return;
	qsort(l->unixes, l->n_unixes, sizeof(*l->unixes), compare);
	for (size_t i = 0; i < pairs.n; i++) {
		const struct unix_end *u = find_unix(l, pairs.list[i].inode);

		if (u && pairs.list[i].peer && !find_unix(l, pairs.list[i].peer))
			look_find(l, REASON_OBJECT_OUTSIDE, u->pid, u->fd, "a local socket that is connected to one "
				  "outside of it");
	}
}
