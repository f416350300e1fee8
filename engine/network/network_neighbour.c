#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>
#include <netinet/ip6.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "engine/base/cleanup.h"
#include "engine/base/clock.h"
#include "engine/network/network.h"
#include "engine/network/network_address.h"
#include "engine/network/network_batch.h"
#include "engine/network/network_netns.h"

#define PROBES 3	/* RFC 5227 section 1.1, PROBE_NUM */

static const uint8_t no_mac[6];
static const uint8_t broadcast_mac[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

struct arp_frame {
	struct ether_header eth;
	struct ether_arp arp;
} __attribute__((packed));

/* Neighbour solicitation or advertisement with room for one option: the MAC. */
struct nd_frame {
	struct ether_header eth;
	struct ip6_hdr ip;
	struct icmp6_hdr icmp;
	struct in6_addr target;
	uint8_t option[8];
} __attribute__((packed));

/* A packet socket on one interface. */
struct bridge_port {
	int sock;
	int ifindex;
	uint8_t mac[6];
};

static struct arp_frame arp_frame(uint16_t op, const uint8_t mac[6], const uint8_t *sender,
				  const uint8_t target[4])
{
	struct arp_frame f = {
		.eth.ether_type = htons(ETHERTYPE_ARP),
		.arp.ea_hdr = {
			.ar_hrd = htons(ARPHRD_ETHER),
			.ar_pro = htons(ETHERTYPE_IP),
			.ar_hln = 6,
			.ar_pln = 4,
			.ar_op = htons(op),
		},
	};

	memcpy(f.eth.ether_dhost, broadcast_mac, 6);
	memcpy(f.eth.ether_shost, mac, 6);
	memcpy(f.arp.arp_sha, mac, 6);
	if (sender)
		memcpy(f.arp.arp_spa, sender, 4);
	if (op == ARPOP_REPLY)
		memcpy(f.arp.arp_tha, broadcast_mac, 6);
	memcpy(f.arp.arp_tpa, target, 4);
	return f;
}

/* RFC 1071 over pseudo header (RFC 8200 section 8.1) and len bytes of payload. */
static uint16_t icmp6_checksum(const struct nd_frame *f, size_t len)
{
	const uint8_t *addresses = (const uint8_t *)&f->ip.ip6_src;
	const uint8_t *payload = (const uint8_t *)&f->icmp;
	uint32_t sum = (uint32_t)len + IPPROTO_ICMPV6;

	for (size_t i = 0; i < 2 * sizeof(struct in6_addr); i += 2)
		sum += (uint32_t)addresses[i] << 8 | addresses[i + 1];
	for (size_t i = 0; i < len; i += 2)
		sum += (uint32_t)payload[i] << 8 | payload[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

/* Ethernet header, addresses and checksum for len bytes of ICMPv6. */
static void finish_nd(struct nd_frame *f, const uint8_t mac[6], const uint8_t group[16],
		      size_t len)
{
	f->eth.ether_type = htons(ETHERTYPE_IPV6);
	memcpy(f->eth.ether_shost, mac, 6);
	f->eth.ether_dhost[0] = 0x33;	/* RFC 2464 section 7 */
	f->eth.ether_dhost[1] = 0x33;
	memcpy(f->eth.ether_dhost + 2, group + 12, 4);
	f->ip.ip6_vfc = 6 << 4;
	f->ip.ip6_plen = htons((uint16_t)len);
	f->ip.ip6_nxt = IPPROTO_ICMPV6;
	f->ip.ip6_hlim = 255;
	memcpy(&f->ip.ip6_dst, group, 16);
	f->icmp.icmp6_cksum = icmp6_checksum(f, len);
}

static struct nd_frame advertisement(const uint8_t mac[6], const uint8_t address[16])
{
	static const uint8_t all_nodes[16] = { 0xff, 0x02, [15] = 1 };
	struct nd_frame f = { .icmp.icmp6_type = ND_NEIGHBOR_ADVERT };

	f.icmp.icmp6_dataun.icmp6_un_data32[0] = ND_NA_FLAG_OVERRIDE;
	memcpy(&f.ip.ip6_src, address, 16);
	memcpy(&f.target, address, 16);
	f.option[0] = ND_OPT_TARGET_LINKADDR;
	f.option[1] = 1;	/* in units of 8 bytes */
	memcpy(f.option + 2, mac, 6);
	finish_nd(&f, mac, all_nodes, sizeof(f.icmp) + sizeof(f.target) + sizeof(f.option));
	return f;
}

/* From the unspecified address, as for duplicate address detection (RFC 4862
 * section 5.4.2): it leaves no trace in anybody's neighbour table. */
static struct nd_frame solicitation(const uint8_t mac[6], const uint8_t address[16])
{
	uint8_t group[16] = { 0xff, 0x02, [11] = 1, [12] = 0xff };
	struct nd_frame f = { .icmp.icmp6_type = ND_NEIGHBOR_SOLICIT };

	memcpy(group + 13, address + 13, 3);
	memcpy(&f.target, address, 16);
	finish_nd(&f, mac, group, sizeof(f.icmp) + sizeof(f.target));
	return f;
}

static int open_port(int sock, const char *ifname, struct bridge_port *ret, struct error *err)
{
	struct bridge_port port = { .sock = sock };
	struct ifreq request = { 0 };

	strncpy(request.ifr_name, ifname, IFNAMSIZ - 1);
	if (ioctl(sock, SIOCGIFINDEX, &request) < 0)
		return error_set(err, errno, "look up %s: %s", ifname, strerror(errno));
	port.ifindex = request.ifr_ifindex;
	if (ioctl(sock, SIOCGIFHWADDR, &request) < 0)
		return error_set(err, errno, "get the MAC of %s: %s", ifname, strerror(errno));
	memcpy(port.mac, request.ifr_hwaddr.sa_data, 6);
	*ret = port;
	return 0;
}

static int send_frame(const struct bridge_port *port, const void *frame, size_t len, struct error *err)
{
	struct sockaddr_ll to = {
		.sll_family = AF_PACKET,
		.sll_ifindex = port->ifindex,
		.sll_halen = 6,
	};

	memcpy(to.sll_addr, frame, 6);
	if (sendto(port->sock, frame, len, 0, (struct sockaddr *)&to, sizeof(to)) < 0)
		return error_set(err, errno, "send a frame: %s", strerror(errno));
	return 0;
}

/* ARP in both forms: some neighbours only heed requests, some only replies
 * (RFC 5227 section 3). */
static int announce_from(const struct bridge_port *port, const struct network_cidr *address,
			 struct error *err)
{
	static const uint16_t forms[] = { ARPOP_REQUEST, ARPOP_REPLY };
	struct arp_frame arp;
	struct nd_frame nd;
	int r = 0;

	if (address->family == AF_INET6) {
		nd = advertisement(port->mac, address->bytes);
		return send_frame(port, &nd, sizeof(nd), err);
	}
	for (size_t i = 0; r == 0 && i < sizeof(forms) / sizeof(forms[0]); i++) {
		arp = arp_frame(forms[i], port->mac, address->bytes, address->bytes);
		r = send_frame(port, &arp, sizeof(arp), err);
	}
	return r;
}

static int announce_one(const struct bridge_port *port, const char *text, struct error *err)
{
	struct network_cidr address;

	return text[0] == '\0' ? 0 : network_cidr_parse(text, &address, err) < 0 ? -err->code :
		announce_from(port, &address, err);
}

int network_announce(int netns_fd, const struct network_endpoint *ep, int *ret_sock, struct error *err)
{
	CLEANUP(fd_closep) int sock = -EBADF;
	struct bridge_port port;
	int r;

	if (ep->bridge[0] == '\0')
		return 0;
	r = network_netns_socket(netns_fd, AF_PACKET, SOCK_RAW, 0, &sock, err);
	if (r == 0)
		r = open_port(sock, "eth0", &port, err);
	if (r == 0)
		r = announce_one(&port, ep->address, err);
	if (r == 0)
		r = announce_one(&port, ep->address2, err);
	if (ret_sock)
		*ret_sock = TAKE_FD(sock);
	return r < 0 ? error_wrap(err, "announce %s", ep->address) : 0;
}

/* An interface that gets a MAC, be it the one that it has, loses its neighbours. */
int network_neighbours_forget(int netns_fd, const struct network_endpoint *ep, struct error *err)
{
	CLEANUP(network_batch_freep) struct network_batch *batch = NULL;
	const struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC };
	int r;

	if (ep->bridge[0] == '\0')
		return 0;
	r = network_batch_open(netns_fd, &batch, err);
	if (r < 0)
		return r;
	network_batch_add(batch, RTM_NEWLINK, 0, "forget the neighbours of eth0", &ifi, sizeof(ifi));
	network_batch_put_string(batch, IFLA_IFNAME, "eth0");
	network_batch_put(batch, IFLA_ADDRESS, ep->mac, sizeof(ep->mac));
	return network_batch_run(batch, NULL, NULL, err);
}

static int probe(const struct bridge_port *port, const struct network_cidr *address, struct error *err)
{
	struct arp_frame arp;
	struct nd_frame nd;

	if (address->family == AF_INET) {
		arp = arp_frame(ARPOP_REQUEST, port->mac, NULL, address->bytes);
		return send_frame(port, &arp, sizeof(arp), err);
	}
	nd = solicitation(port->mac, address->bytes);
	return send_frame(port, &nd, sizeof(nd) - sizeof(nd.option), err);
}

/* Somebody other than this port speaks for the address. */
static bool claims(const struct bridge_port *port, const struct network_cidr *address,
		   const uint8_t *frame, size_t len)
{
	struct arp_frame arp;
	struct nd_frame nd;

	if (address->family == AF_INET) {
		if (len < sizeof(arp))
			return false;
		memcpy(&arp, frame, sizeof(arp));
		return arp.eth.ether_type == htons(ETHERTYPE_ARP) &&
		       arp.arp.ea_hdr.ar_pro == htons(ETHERTYPE_IP) &&
		       arp.arp.ea_hdr.ar_hln == 6 && arp.arp.ea_hdr.ar_pln == 4 &&
		       memcmp(arp.arp.arp_spa, address->bytes, 4) == 0 &&
		       memcmp(arp.arp.arp_sha, port->mac, 6) != 0 &&
		       memcmp(arp.arp.arp_sha, no_mac, 6) != 0;
	}
	if (len < sizeof(nd) - sizeof(nd.option))
		return false;
	memcpy(&nd, frame, sizeof(nd) - sizeof(nd.option));
	return nd.eth.ether_type == htons(ETHERTYPE_IPV6) && nd.ip.ip6_nxt == IPPROTO_ICMPV6 &&
	       nd.ip.ip6_hlim == 255 && nd.icmp.icmp6_type == ND_NEIGHBOR_ADVERT &&
	       memcmp(&nd.target, address->bytes, 16) == 0 &&
	       memcmp(nd.eth.ether_shost, port->mac, 6) != 0;
}

/* Reads what has come until until_us. */
static int listen_until(const struct bridge_port *port, const struct network_cidr *address,
			uint64_t until_us, bool *ret, struct error *err)
{
	struct pollfd waiting = { .fd = port->sock, .events = POLLIN };
	uint8_t frame[256];
	uint64_t now;

	while ((now = clock_us()) < until_us) {
		uint64_t left = until_us - now;
		struct timespec t = { (time_t)(left / 1000000), (long)(left % 1000000) * 1000 };
		ssize_t n;

		if (ppoll(&waiting, 1, &t, NULL) < 0 && errno != EINTR)
			return error_set(err, errno, "wait for an answer: %s", strerror(errno));
		n = recv(port->sock, frame, sizeof(frame), MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return error_set(err, errno, "receive: %s", strerror(errno));
		if (n > 0 && claims(port, address, frame, (size_t)n)) {
			*ret = true;
			return 0;
		}
	}
	return 0;
}

/* Nothing that came before the interface was chosen is heard. */
static int listen_on(const struct bridge_port *port, int family, struct error *err)
{
	struct sockaddr_ll from = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(family == AF_INET ? ETH_P_ARP : ETH_P_IPV6),
		.sll_ifindex = port->ifindex,
	};

	if (bind(port->sock, (struct sockaddr *)&from, sizeof(from)) < 0)
		return error_set(err, errno, "listen: %s", strerror(errno));
	return 0;
}

static int ask(const struct bridge_port *port, const struct network_cidr *address, uint64_t wait_us,
	       bool *ret, struct error *err)
{
	uint64_t start = clock_us();
	bool found = false;
	int r = 0;

	for (unsigned i = 0; r == 0 && !found && i < PROBES; i++) {
		r = probe(port, address, err);
		if (r == 0)
			r = listen_until(port, address, start + wait_us * (i + 1) / PROBES, &found,
					 err);
	}
	if (r == 0)
		*ret = found;
	return r;
}

int network_address_answers(const char *bridge, const char *address, uint64_t wait_us,
			    bool *ret, struct error *err)
{
	CLEANUP(fd_closep) int sock = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	struct network_cidr wanted;
	struct bridge_port port;
	int r;

	r = network_cidr_parse(address, &wanted, err);
	if (r < 0)
		return r;
	if (sock < 0)
		return error_set(err, errno, "ask for %s: make a packet socket: %s", address,
				 strerror(errno));
	r = open_port(sock, bridge, &port, err);
	if (r == 0)
		r = listen_on(&port, wanted.family, err);
	if (r == 0)
		r = ask(&port, &wanted, wait_us, ret, err);
	return r < 0 ? error_wrap(err, "ask for %s on %s", address, bridge) : 0;
}
