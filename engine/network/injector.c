#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "engine/network/gate.h"
#include "engine/network/injector.h"
#include "engine/network/network_netns.h"
#include "engine/network/packet.h"

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5	/* Linux 6.2 */
#endif

struct injector {
	int sock;
	char ifname[IFNAMSIZ];
};

/* Bound without a protocol it receives nothing. */
static int prepare(struct injector *in, bool past_gate, struct error *err)
{
	const int one = 1, bypass = past_gate;
	struct ifreq request = { 0 };
	struct sockaddr_ll sa = { .sll_family = AF_PACKET };

	strcpy(request.ifr_name, in->ifname);
	if (ioctl(in->sock, SIOCGIFINDEX, &request) < 0)
		return error_set(err, errno, "look up %s: %s", in->ifname, strerror(errno));
	sa.sll_ifindex = request.ifr_ifindex;
	if (setsockopt(in->sock, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) < 0 ||
	    setsockopt(in->sock, SOL_PACKET, PACKET_QDISC_BYPASS, &bypass, sizeof(bypass)) < 0 ||
	    bind(in->sock, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return error_set(err, errno, "prepare a packet socket: %s", strerror(errno));
	return 0;
}

int injector_open(int netns_fd, const char *ifname, bool past_gate, struct injector **ret,
		  struct error *err)
{
	CLEANUP(injector_freep) struct injector *in = calloc(1, sizeof(*in));
	int r = 0;

	if (!in)
		return error_set(err, ENOMEM, "out of memory");
	in->sock = -EBADF;
	strncpy(in->ifname, ifname, sizeof(in->ifname) - 1);
	if (netns_fd >= 0)
		r = network_netns_socket(netns_fd, AF_PACKET, SOCK_RAW, 0, &in->sock, err);
	else if ((in->sock = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0)) < 0)
		r = error_set(err, errno, "make a packet socket: %s", strerror(errno));
	if (r == 0)
		r = prepare(in, past_gate, err);
	if (r == 0)
		*ret = TAKE_PTR(in);
	return r;
}

void injector_free(struct injector *injector)
{
	if (!injector)
		return;
	fd_close(&injector->sock);
	free(injector);
}

/* A checksum that was put off has the sum of the pseudo header in its place. A
 * complete one can look so by chance: then it is computed once more. */
static void describe_checksum(const struct packet *p, struct virtio_net_hdr *h)
{
	h->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	h->csum_start = (uint16_t)p->transport;
	h->csum_offset = (uint16_t)p->checksum_at;
}

static int describe_segments(const struct gate_frame *f, const struct packet *p,
			     struct virtio_net_hdr *h, struct error *err)
{
	if (p->checksum_at == 0)
		return error_set(err, EPROTO, "a frame of several segments is neither TCP nor UDP");
	if (f->gso_bytes >= UINT16_MAX || p->payload >= f->len)
		return error_set(err, EPROTO, "a frame of %u bytes in segments of %u", f->len,
				 f->gso_bytes);
	if (p->protocol == IPPROTO_UDP)
		h->gso_type = VIRTIO_NET_HDR_GSO_UDP_L4;
	else
		h->gso_type = p->family == AF_INET ? VIRTIO_NET_HDR_GSO_TCPV4 :
						     VIRTIO_NET_HDR_GSO_TCPV6;
	if (p->has_cwr)
		h->gso_type |= VIRTIO_NET_HDR_GSO_ECN;
	h->gso_size = (uint16_t)f->gso_bytes;
	h->hdr_len = (uint16_t)p->payload;
	describe_checksum(p, h);
	return 0;
}

int injector_describe(const struct gate_frame *frame, struct virtio_net_hdr *ret,
		      struct error *err)
{
	struct virtio_net_hdr h = { 0 };
	struct packet p;
	int r = 0;

	if (frame->len <= ETH_HLEN || frame->len > GATE_FRAME_MAX)
		return error_set(err, EPROTO, "a held frame of %u bytes", frame->len);
	packet_parse(frame->data, frame->len, &p);
	if (frame->gso_bytes)
		r = describe_segments(frame, &p, &h, err);
	else if (p.checksum_at && p.checksum == p.pseudo_sum)
		describe_checksum(&p, &h);
	if (r == 0)
		*ret = h;
	return r;
}

int injector_send(struct injector *injector, const struct gate_frame *frame, struct error *err)
{
	struct virtio_net_hdr h;
	struct iovec iov[] = {
		{ &h, sizeof(h) },
		{ (void *)(uintptr_t)frame->data, frame->len },
	};
	int r;

	r = injector_describe(frame, &h, err);
	if (r == 0 && writev(injector->sock, iov, 2) < 0)
		r = error_set(err, errno, "%s", strerror(errno));
	return r < 0 ? error_wrap(err, "deliver a frame of %u bytes to %s", frame->len,
				  injector->ifname) : 0;
}
