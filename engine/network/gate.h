/*
 * gate.h - a gate that holds frames for a container instead of losing them
 *
 * A frame that is lost costs its sender a retransmission timer, 200 ms at least.
 * So while a container moves, what comes for it is kept and handed over. An armed
 * gate is a BPF program on the host side of the container's pair (tc-bpf(8),
 * Documentation/bpf/ringbuf.rst) in one of these states:
 *
 *		to the container	from the container
 *   OPEN	passes			passes
 *   HELD_NEW	new ones kept (4)	passes
 *   HELD_IN	kept in the ring (1)	passes
 *   HELD	kept in the ring (2)	dropped
 *   AWAY	follows it (2, 3)	dropped
 *   MUTED	dropped			kept in the ring
 *   CLOSED	dropped			dropped
 *
 *   1 ARP and neighbour discovery pass: the kernel answers for tasks that stand still
 *   2 a frame from the container's own MAC tells behind which port of the bridge it
 *     is now (gate_set_mac), and goes no further
 *   3 where frames from other ports of the bridge are sent; those from that port went
 *     astray, and are kept in the ring; those to a group are dropped
 *   4 the first segment of a TCP connection is kept in the ring, for a time
 *
 * Changing the state is one store into memory that the program sees too. The ring
 * keeps GATE_RING_BYTES; what comes when it is full is lost and counted, and so is a
 * frame that is older than GATE_AGE_MAX_US when it is taken: whoever sent it has asked
 * again by then, or given up. A frame
 * is copied whole, also one of many TCP or UDP segments from a sender on the same
 * machine, whose checksums nobody has computed yet: injector.h can deliver those.
 *
 * Source: arm long before, since it takes milliseconds; hold when frozen.
 *
 *   r = gate_arm(ifname, -EBADF, GATE_OPEN, &gate, err);
 *   gate_hold_new(gate, 1000000);
 *   ...wait until no connection is between there and accept(2)...
 *   ...freeze the cgroup...
 *   gate_set(gate, GATE_HELD_IN);
 *   ...stop the tasks...
 *   gate_set(gate, GATE_HELD);
 *   ...dump the sockets; commit...
 *   gate_set(gate, GATE_AWAY);
 *   r = gate_take(gate, send_to_target, channel, err);	again whenever gate_fd is readable
 *   gate_free(gate);
 * or, when it comes to nothing:
 *   gate_release(gate);
 *   ...thaw the cgroup...
 *   gate_free(gate);
 *
 * Freeze first, then hold: in the moment between, the kernel may receive and
 * acknowledge for frozen tasks, and send what waits in their queues; the dump comes
 * later and has it. As long as such frames come the container's own pass, since one
 * that is dropped is sent again only when a timer expires. For the same reason release
 * first, then thaw.
 *
 * Target: sockets that are restored speak at once, with the data that was in their
 * queue and with window probes (tcp(7), TCP_REPAIR off). Lost, those would be sent
 * again only after a second, since the socket knows no round trip time yet.
 *
 *   r = gate_arm(ifname, netns_fd, GATE_CLOSED, &gate, err);
 *   gate_set(gate, GATE_MUTED);
 *   ...restore; commit; deliver what the source has held (injector.h)...
 *   gate_unmute(gate);
 *   ...announce the address, thaw the cgroup; deliver the last that the source has...
 *   gate_release(gate);
 *   gate_free(gate);
 *
 * Direct frames for the container so come after those that went by the source.
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

#define GATE_AGE_MAX_US 30000000u

/* As in the table above, in small letters: "held-new". */
const char *gate_state_name(enum gate_state state);

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
 * frame counts as taken; one above 1 ends it, too, and the frame stays. */
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

/* GATE_HELD_NEW. After for_us such segments pass again, also when the caller has died;
 * those that it has kept are lost then, and sent again. */
void gate_hold_new(struct gate *gate, uint64_t for_us);

/* So that a held gate knows its frames, before it is held. */
void gate_set_mac(struct gate *gate, const uint8_t mac[6]);

/* Where the container was heard by another gate on the same bridge is known to this one. */
void gate_learn(struct gate *gate, const struct gate *other);

/* Visits the frames held so far in their order, but those that are too old, and forgets
 * them; doesn't block.
 * Returns what visit returned if that was not 0; 1 when a processor is just
 * writing a frame, which a later call will find. */
int gate_take(struct gate *gate, gate_visit *visit, void *data, struct error *err);

/* False when its interface is gone: nothing will come any more. */
bool gate_is_there(const struct gate *gate);

/* Readable (poll(2)) when frames are held. Borrowed. */
int gate_fd(const struct gate *gate);

/* For a gate that was muted: sends what the container has said since, newer frames
 * behind it, and holds what comes for it. */
void gate_unmute(struct gate *gate);

/* Sends every held frame to where it was going, newer ones behind them, and leaves
 * the gate open. A frame that cannot be delivered is counted. For a container that
 * stays or has come: call it before the thaw. */
void gate_release(struct gate *gate);

/* Delivers a frame that was held on another node, whatever the state. Errors as of
 * injector_send; counted, too. */
int gate_deliver(struct gate *gate, const struct gate_frame *frame, struct error *err);

/* What happened since gate_arm. */
void gate_read_counters(const struct gate *gate, struct gate_counters *ret);

/* State and counters of a gate that any process has armed, by what is on the interface:
 * 1; or 0 when no gate of this program is there, or no interface. -EPERM without
 * CAP_NET_ADMIN and CAP_SYS_ADMIN. */
int gate_look(const char *host_ifname, enum gate_state *ret_state, struct gate_counters *ret,
	      struct error *err);

/* Frees it without a change to the interface: another process that has it, by fork(2),
 * goes on. */
void gate_forget(struct gate *gate);

/* Takes the program off. An open gate is then as if there had never been one;
 * any other is closed by network_gate_set's means, so that nobody talks to a
 * container that must be silent, and what it holds is lost. A gate that
 * has delivered something takes 10 to 20 ms, which the kernel waits before it lets a
 * packet socket go: nobody's downtime. */
void gate_free(struct gate *gate);
DEFINE_CLEANUP(struct gate *, gate_free)
