#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <string.h>
#include <sys/socket.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/network/network_netns.h"
#include "migrate/network/inet_diag.h"

#define ANSWER_BYTES 32768

int inet_diag_open(pid_t pid, int *ret_fd, struct error *err)
{
	CLEANUP(fd_closep)
	int netns = -EBADF;
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	netns = open(path, O_RDONLY | O_CLOEXEC);
	if (netns < 0)
		return error_set(err, errno, "%s: %s", path, strerror(errno));
	return network_netns_socket(netns, AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG, ret_fd, err);
}

static int ask(int diag_fd, int family, int protocol, uint32_t states, struct error *err)
{
	struct {
		struct nlmsghdr head;
		struct inet_diag_req_v2 request;
	} q = { 0 };

	q.head.nlmsg_len = sizeof(q);
	q.head.nlmsg_type = SOCK_DIAG_BY_FAMILY;
	q.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	q.request.sdiag_family = (uint8_t)family;
	q.request.sdiag_protocol = (uint8_t)protocol;
	q.request.idiag_states = states;
	if (send(diag_fd, &q, sizeof(q), 0) < 0)
		return error_set(err, errno, "list its sockets: %s", strerror(errno));
	return 0;
}

/* 1: that was the last. */
static int read_some(int diag_fd, inet_diag_visit *visit, void *ctx, struct error *err)
{
	_Alignas(struct nlmsghdr) char buffer[ANSWER_BYTES];
	ssize_t n = recv(diag_fd, buffer, sizeof(buffer), 0);
	struct nlmsghdr *h = (struct nlmsghdr *)buffer;

	if (n < 0)
		return error_set(err, errno, "list its sockets: %s", strerror(errno));
	for (unsigned len = (unsigned)n; NLMSG_OK(h, len); h = NLMSG_NEXT(h, len)) {
		if (h->nlmsg_type == NLMSG_DONE)
			return 1;
		if (h->nlmsg_type != SOCK_DIAG_BY_FAMILY || h->nlmsg_len < NLMSG_LENGTH(sizeof(struct inet_diag_msg)))
			return error_set(err, EPROTO, "list its sockets: the kernel refuses");
		visit(ctx, NLMSG_DATA(h));
	}
	return 0;
}

int inet_diag_each(int diag_fd, int protocol, uint32_t states, inet_diag_visit *visit, void *ctx,
		   struct error *err)
{
	for (const int *family = (const int[]){ AF_INET, AF_INET6, 0 }; *family; family++) {
		int r = ask(diag_fd, *family, protocol, states, err);

		while (r == 0)
			r = read_some(diag_fd, visit, ctx, err);
		if (r < 0)
			return r;
	}
	return 0;
}
