#include <linux/netlink.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "engine/base/cleanup.h"
#include "engine/base/clock.h"
#include "engine/network/network_netns.h"
#include "engine/network/network_watch.h"

int network_watch_open(int netns_fd, uint32_t groups, int *ret_fd, struct error *err)
{
	struct sockaddr_nl sa = { .nl_family = AF_NETLINK, .nl_groups = groups };
	CLEANUP(fd_closep) int fd = -EBADF;
	int r;

	r = network_netns_socket(netns_fd, AF_NETLINK, SOCK_RAW, NETLINK_ROUTE, &fd, err);
	if (r < 0)
		return r;
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return error_set(err, errno, "listen to netlink: %s", strerror(errno));
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* Reads one datagram if there is one. */
static int read_messages(int fd, network_watch_done *done, const void *data, bool *ret_done,
			 struct error *err)
{
	_Alignas(struct nlmsghdr) char buffer[8192];
	struct nlmsghdr *message = (struct nlmsghdr *)(void *)buffer;
	ssize_t n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
	size_t left = n > 0 ? (size_t)n : 0;

	if (n < 0 && errno == ENOBUFS) {	/* some were lost */
		*ret_done = done(NULL, data);
		return 0;
	}
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return error_set(err, errno, "receive from netlink: %s", strerror(errno));
	for (; !*ret_done && NLMSG_OK(message, left); message = NLMSG_NEXT(message, left))
		*ret_done = done(message, data);
	return 0;
}

int network_watch_until(int fd, uint64_t wait_us, network_watch_done *done, const void *data,
			struct error *err)
{
	struct pollfd waiting = { .fd = fd, .events = POLLIN };
	uint64_t until_us = clock_us() + wait_us, now;
	bool finished = done(NULL, data);
	int r;

	while (!finished && (now = clock_us()) < until_us) {
		uint64_t left = until_us - now;
		struct timespec t = { (time_t)(left / 1000000), (long)(left % 1000000) * 1000 };

		if (ppoll(&waiting, 1, &t, NULL) < 0 && errno != EINTR)
			return error_set(err, errno, "wait for netlink: %s", strerror(errno));
		r = read_messages(fd, done, data, &finished, err);
		if (r < 0)
			return r;
	}
	return finished ? 0 : 1;
}
