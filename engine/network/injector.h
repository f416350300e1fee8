/*
 * injector.h - sends frames out of an interface, past what is put in their way there
 *
 * Delivers what a gate has held, here or on another node, through a packet socket:
 * on the host side of the container's pair what goes to the container, on its eth0
 * what comes from there. It can go past the qdisc, and with it
 * past the gate (PACKET_QDISC_BYPASS of packet(7)). Frames that came from a
 * sender on the same machine may lack a checksum or be many segments in one;
 * PACKET_VNET_HDR tells the kernel so, as virtual machines do (struct
 * virtio_net_hdr, virtio 1.2 section 5.1.6.2). Not for several threads.
 *
 * What only the kernel knew is lost by copying, and the receiver drops such a
 * frame: SCTP and the inner packets of tunnels whose checksum was put off.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"

struct injector;
struct gate_frame;
struct virtio_net_hdr;

/* netns_fd is borrowed; -EBADF: the caller's namespace. -ENODEV when there is no such
 * interface. Freeing takes 10 ms (the kernel waits for
 * an RCU grace period): not while somebody waits. */
int injector_open(int netns_fd, const char *ifname, bool past_gate, struct injector **ret,
		  struct error *err);
void injector_free(struct injector *injector);
DEFINE_CLEANUP(struct injector *, injector_free)

/* The frame may come from a peer: -EPROTO when its lengths or its gso_bytes make no
 * sense, the kernel's errno when it refuses it (-EMSGSIZE: longer than the MTU). */
int injector_send(struct injector *injector, const struct gate_frame *frame, struct error *err);

/* What is still to be done to the frame, for the kernel; all 0 when nothing is.
 * Pure; -EPROTO as above. */
int injector_describe(const struct gate_frame *frame, struct virtio_net_hdr *ret,
		      struct error *err);
