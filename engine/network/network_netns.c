#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>

#include "engine/base/cleanup.h"
#include "engine/network/network_netns.h"

int network_netns_current(int *ret_fd, struct error *err)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return error_set(err, errno, "open /proc/thread-self/ns/net: %s", strerror(errno));
	*ret_fd = fd;
	return 0;
}

int network_netns_enter(int netns_fd, int *ret_home, struct error *err)
{
	CLEANUP(fd_closep) int home = -EBADF;
	int r;

	r = network_netns_current(&home, err);
	if (r < 0)
		return r;
	if (setns(netns_fd, CLONE_NEWNET) < 0)
		return error_set(err, errno, "enter the network namespace: %s", strerror(errno));
	*ret_home = TAKE_FD(home);
	return 0;
}

int network_netns_enter_new(int *ret_home, struct error *err)
{
	CLEANUP(fd_closep) int home = -EBADF;
	int r;

	r = network_netns_current(&home, err);
	if (r < 0)
		return r;
	if (unshare(CLONE_NEWNET) < 0)
		return error_set(err, errno, "make a network namespace: %s", strerror(errno));
	*ret_home = TAKE_FD(home);
	return 0;
}

int network_netns_leave(int *home, struct error *err)
{
	int r = 0;

	if (*home < 0)
		return 0;
	if (setns(*home, CLONE_NEWNET) < 0)
		r = error_set(err, errno, "return to the node's network namespace: %s",
			      strerror(errno));
	fd_close(home);
	return r;
}

void network_netns_leavep(int *home)
{
	struct error ignored;
	int saved = errno;

	(void)network_netns_leave(home, &ignored);
	errno = saved;
}

int network_netns_socket(int netns_fd, int domain, int type, int protocol, int *ret_fd,
			 struct error *err)
{
	CLEANUP(network_netns_leavep) int home = -EBADF;
	CLEANUP(fd_closep) int fd = -EBADF;
	int r;

	if (netns_fd >= 0) {
		r = network_netns_enter(netns_fd, &home, err);
		if (r < 0)
			return r;
	}
	fd = socket(domain, type | SOCK_CLOEXEC, protocol);
	if (fd < 0)
		return error_set(err, errno, "make a socket: %s", strerror(errno));
	r = network_netns_leave(&home, err);
	if (r < 0)
		return r;
	*ret_fd = TAKE_FD(fd);
	return 0;
}
