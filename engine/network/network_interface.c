#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/route.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <linux/ipv6.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/network/network_interface.h"
#include "engine/network/network_netns.h"

/* Sockets in its namespace; -EBADF: not of that family. */
struct inside {
	const char *ifname;
	int index;
	int sock, sock6;
};

static int request(int sock, unsigned long code, void *argument, const char *what, struct error *err)
{
	return ioctl(sock, code, argument) < 0 ? error_set(err, errno, "%s: %s", what, strerror(errno)) : 0;
}

static struct ifreq request_of(const struct inside *in)
{
	struct ifreq r = { 0 };

	(void)snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", in->ifname);
	return r;
}

static int set_address(const struct inside *in, unsigned long code, uint32_t address, struct error *err)
{
	const struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = address };
	struct ifreq r = request_of(in);

	memcpy(&r.ifr_addr, &sa, sizeof(sa));
	return request(in->sock, code, &r, "add the address", err);
}

/* While the interface is down: else there would be routes of the address's class first. */
static int add_address4(const struct inside *in, const struct network_cidr *cidr, struct error *err)
{
	uint32_t address, mask = cidr->prefix ? htonl(UINT32_MAX << (32 - cidr->prefix)) : 0;

	memcpy(&address, cidr->bytes, sizeof(address));
	return set_address(in, SIOCSIFADDR, address, err) < 0 ? -err->code : set_address(in, SIOCSIFNETMASK, mask, err);
}

static int add_address6(const struct inside *in, const struct network_cidr *cidr, struct error *err)
{
	struct in6_ifreq r = { .ifr6_prefixlen = cidr->prefix, .ifr6_ifindex = in->index };

	memcpy(&r.ifr6_addr, cidr->bytes, sizeof(r.ifr6_addr));
	return request(in->sock6, SIOCSIFADDR, &r, "add the address", err);
}

static int bring_up(const struct inside *in, struct error *err)
{
	struct ifreq r = request_of(in);

	if (request(in->sock, SIOCGIFFLAGS, &r, "look it up", err) < 0)
		return -err->code;
	r.ifr_flags |= IFF_UP;
	return request(in->sock, SIOCSIFFLAGS, &r, "bring it up", err);
}

static int add_route4(const struct inside *in, const struct network_cidr *gateway, struct error *err)
{
	struct sockaddr_in sa = { .sin_family = AF_INET };
	struct rtentry r = { .rt_flags = RTF_UP | RTF_GATEWAY, .rt_dev = (char *)(uintptr_t)in->ifname };

	memcpy(&r.rt_dst, &sa, sizeof(sa));
	memcpy(&r.rt_genmask, &sa, sizeof(sa));
	memcpy(&sa.sin_addr, gateway->bytes, sizeof(sa.sin_addr));
	memcpy(&r.rt_gateway, &sa, sizeof(sa));
	return request(in->sock, SIOCADDRT, &r, "add the default route", err);
}

static int add_route6(const struct inside *in, const struct network_cidr *gateway, struct error *err)
{
	struct in6_rtmsg r = { .rtmsg_flags = RTF_UP | RTF_GATEWAY, .rtmsg_ifindex = in->index };

	memcpy(&r.rtmsg_gateway, gateway->bytes, sizeof(r.rtmsg_gateway));
	return request(in->sock6, SIOCADDRT, &r, "add the default route", err);
}

static int configure(const struct inside *in, const struct network_face *faces, size_t n, struct error *err)
{
	for (size_t i = 0; i < n; i++)
		if (faces[i].address.family == AF_INET && add_address4(in, &faces[i].address, err) < 0)
			return -err->code;
	if (bring_up(in, err) < 0)
		return -err->code;
	for (size_t i = 0; i < n; i++) {
		const struct network_cidr *gateway = &faces[i].gateway;
		bool six = faces[i].address.family == AF_INET6;

		if (six && add_address6(in, &faces[i].address, err) < 0)
			return -err->code;
		if (faces[i].has_gateway &&
		    (six ? add_route6(in, gateway, err) : add_route4(in, gateway, err)) < 0)
			return -err->code;
	}
	return 0;
}

static int find_index(struct inside *in, struct error *err)
{
	struct ifreq r = request_of(in);

	if (request(in->sock, SIOCGIFINDEX, &r, "look it up", err) < 0)
		return -err->code;
	in->index = r.ifr_ifindex;
	return 0;
}

int network_interface_configure(int netns_fd, const char *ifname, const struct network_face *faces, size_t n,
				struct error *err)
{
	CLEANUP(fd_closep) int sock = -EBADF, sock6 = -EBADF;
	struct inside in = { .ifname = ifname };
	int r = network_netns_socket(netns_fd, AF_INET, SOCK_DGRAM, 0, &sock, err);

	for (size_t i = 0; r == 0 && sock6 < 0 && i < n; i++)
		if (faces[i].address.family == AF_INET6)
			r = network_netns_socket(netns_fd, AF_INET6, SOCK_DGRAM, 0, &sock6, err);
	in.sock = sock;
	in.sock6 = sock6;
	if (r == 0)
		r = find_index(&in, err);
	if (r == 0)
		r = configure(&in, faces, n, err);
	return r < 0 ? error_wrap(err, "%s", ifname) : 0;
}
