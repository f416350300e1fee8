/*
 * gate.h - a gate that holds frames for a container instead of losing them
 *
 * A frame that is lost costs its sender a retransmission timer, 200 ms at least.
 * So while a container moves, what comes for it is kept and handed over. An armed
 * gate is a BPF program on the host side of the container's pair (tc-bpf(8),
 * Documentation/bpf/ringbuf.rst) in one of four states:
 *
 *		to the container	from the container
 *   OPEN	passes			passes
 *   HELD	kept in the ring	dropped
 *   DRAINING	kept in the ring	passes
 *   MUTED	dropped			kept in the ring
 *   CLOSED	dropped			dropped
 *
 * Changing the state is one store into memory that the program sees too. The ring
 * keeps GATE_RING_BYTES; what comes when it is full is lost and counted. A frame
 * is copied whole, also one of many TCP or UDP segments from a sender on the same
 * machine, whose checksums nobody has computed yet: injector.h can deliver those.
 *
 * Source: arm long before, since it takes milliseconds; hold when frozen.
 *
 *   r = gate_arm(ifname, -EBADF, GATE_OPEN, &gate, err);
 *   ...freeze the cgroup...
 *   gate_set(gate, GATE_HELD);
 *   ...dump; commit...
 *   r = gate_take(gate, send_to_target, channel, err);	again whenever gate_fd is readable
 *   gate_free(gate);
 * or, when it comes to nothing:
 *   gate_release(gate);
 *   ...thaw the cgroup...
 *   gate_free(gate);
 *
 * Freeze first, then hold: what a task sends through a gate that is held is lost,
 * and nobody will send it again before a timer expires. In the moment between, the
 * kernel may receive and acknowledge for frozen tasks; the dump comes later and
 * has it. For the same reason release first, then thaw.
 *
 * Target: sockets that are restored speak at once, with the data that was in their
 * queue and with window probes (tcp(7), TCP_REPAIR off). Lost, those would be sent
 * again only after a second, since the socket knows no round trip time yet.
 *
 *   r = gate_arm(ifname, netns_fd, GATE_CLOSED, &gate, err);
 *   gate_set(gate, GATE_MUTED);
 *   ...restore; commit...
 *   gate_release(gate);
 *   r = gate_deliver(gate, &frame_of_the_source, err);
 *   ...thaw the cgroup, announce the address...
 *   gate_free(gate);
 *
 * The program lives as long as the pair, also when its owner dies; then the gate
 * stays as it is (held: until the ring is full, then lost). network_gate_set takes
 * the program off whoever armed it. One gate an interface; not for several threads.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"
#include "engine/bpf/gate_shared.h"

struct gate;

/* An Ethernet frame with its VLAN tag in place. gso_bytes is 0 or the payload of
 * each of the segments that the frame still has to be cut into. */
struct gate_frame {
	const uint8_t *data;
	uint32_t len;
	uint32_t gso_bytes;
	uint64_t time_us;	/* when it came, as clock_us() */
	bool from_container;	/* in a muted gate */
};

/* The frame is borrowed for the call. A negative return ends the taking, and this
 * frame counts as taken. */
typedef int gate_visit(const struct gate_frame *frame, void *data, struct error *err);

/* Loads the program and puts it on the interface, 3 ms in all. The gate must be open
 * or closed as now says, GATE_OPEN or GATE_CLOSED, and is so when this fails. Frames
 * pass, or don't, all the while. netns_fd is the container's, borrowed; -EBADF for a
 * gate that will never be muted. -ENODEV when there is no such interface, -EPERM
 * without CAP_BPF and CAP_NET_ADMIN. */
int gate_arm(const char *host_ifname, int netns_fd, enum gate_state now, struct gate **ret,
	     struct error *err);

/* Well under a microsecond. Frames that a processor is handling right now may
 * still go by the old state. */
void gate_set(struct gate *gate, enum gate_state state);

/* Visits the frames held so far in their order and forgets them; doesn't block.
 * Returns what visit returned if that was negative; 1 when a processor is just
 * writing a frame, which a later call will find. */
int gate_take(struct gate *gate, gate_visit *visit, void *data, struct error *err);

/* Readable (poll(2)) when frames are held. Borrowed. */
int gate_fd(const struct gate *gate);

/* Sends every held frame to where it was going, newer ones behind them, and leaves
 * the gate open. A frame that cannot be delivered is counted. For a container that
 * stays or has come: call it before the thaw. */
void gate_release(struct gate *gate);

/* Delivers a frame that was held on another node, whatever the state. Errors as of
 * injector_send; counted, too. */
int gate_deliver(struct gate *gate, const struct gate_frame *frame, struct error *err);

/* What happened since gate_arm. */
void gate_read_counters(const struct gate *gate, struct gate_counters *ret);

/* Takes the program off. An open gate is then as if there had never been one;
 * any other is closed by network_gate_set's means, so that nobody talks to a
 * container that must be silent, and what it holds is lost. A gate that
 * has delivered something takes 10 to 20 ms, which the kernel waits before it lets a
 * packet socket go: nobody's downtime. */
void gate_free(struct gate *gate);
DEFINE_CLEANUP(struct gate *, gate_free)
