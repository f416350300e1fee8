#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/network/network.h"
#include "engine/network/network_netns.h"

/* Whatever is written here holds for eth0 too, which comes later. */
static int set_sysctls(gid_t root_gid, struct error *err)
{
	char ping[24];
	const struct {
		const char *path, *value;
		bool may_lack;
	} settings[] = {
		{ "/proc/sys/net/ipv4/ping_group_range", ping, false },
		{ "/proc/sys/net/ipv4/ip_unprivileged_port_start", "0", false },
		/* The addresses are the engine's business, and usable at once. */
		{ "/proc/sys/net/ipv6/conf/default/accept_dad", "0", true },
		{ "/proc/sys/net/ipv6/conf/default/accept_ra", "0", true },
	};

	(void)snprintf(ping, sizeof(ping), "%u %u", root_gid, root_gid);
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		int r = fd_write_file_at(AT_FDCWD, settings[i].path, settings[i].value, err);

		if (r < 0 && !(settings[i].may_lack && r == -ENOENT))
			return r;
	}
	return 0;
}

static int loopback_up(struct error *err)
{
	CLEANUP(fd_closep) int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };

	if (sock < 0 || ioctl(sock, SIOCSIFFLAGS, &request) < 0)
		return error_set(err, errno, "bring up loopback: %s", strerror(errno));
	return 0;
}

int network_namespace_set_up(int netns_fd, gid_t root_gid, struct error *err)
{
	CLEANUP(network_netns_leavep) int home = -EBADF;

	if (network_netns_enter(netns_fd, &home, err) < 0 || loopback_up(err) < 0 ||
	    set_sysctls(root_gid, err) < 0 || network_netns_leave(&home, err) < 0)
		return error_wrap(err, "network namespace");
	return 0;
}

int network_namespace_create(int *ret_netns_fd, struct error *err)
{
	CLEANUP(network_netns_leavep) int home = -EBADF;
	CLEANUP(fd_closep) int netns_fd = -EBADF;

	if (network_netns_enter_new(&home, err) < 0 || network_netns_current(&netns_fd, err) < 0 ||
	    network_netns_leave(&home, err) < 0)
		return error_wrap(err, "network namespace");
	if (network_namespace_set_up(netns_fd, 0, err) < 0)
		return -err->code;
	*ret_netns_fd = TAKE_FD(netns_fd);
	return 0;
}
