#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "engine/bpf/gate_shared.h"

/*
 * Runs at the host side of a container's pair, as cls_bpf in direct-action mode
 * (tc-bpf(8)). Needs nothing newer than the ring buffer, Linux 5.8.
 */

#define TAG_BYTES 4
#define BOTH_MACS 12
#define IPV6_HEADER 40
#define NEXT_TCP 6
#define NEXT_ICMPV6 58
#define ND_FIRST 133	/* router solicitation */
#define ND_LAST 137	/* redirect */
#define IPV4_NEXT 9	/* offsets in the headers */
#define IPV6_NEXT 6
#define TCP_FLAGS 13
#define TCP_SYN 0x02
#define TCP_ACK 0x10

volatile enum gate_state state;
volatile uint64_t held_new_until_ns;	/* CLOCK_MONOTONIC */
struct gate_counters counters;

/* Of the container; and the port of the bridge behind which it was heard to speak. */
volatile uint8_t container_mac[ETH_ALEN];
volatile uint32_t heard_on;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, GATE_RING_BYTES);
} ring SEC(".maps");

static __always_inline void count(struct gate_count *c, uint32_t bytes)
{
	__sync_fetch_and_add(&c->frames, 1);
	__sync_fetch_and_add(&c->bytes, bytes);
}

/* The kernel keeps a VLAN tag beside the frame: it goes back to its place. */
static __always_inline void write_tag(const struct __sk_buff *skb, uint8_t *to)
{
	to[0] = skb->vlan_proto & 0xff;	/* in network order already */
	to[1] = (uint8_t)(skb->vlan_proto >> 8);
	to[2] = (uint8_t)(skb->vlan_tci >> 8);
	to[3] = skb->vlan_tci & 0xff;
}

/* Copies also what is not in the frame's linear part. */
static __always_inline bool copy(struct __sk_buff *skb, struct gate_record *rec, uint64_t room)
{
	uint64_t len = skb->len;

	/* The barriers keep the compiler from making one comparison of two, in which
	 * the verifier would not recognise the limits. */
	barrier_var(len);
	if (len <= ETH_HLEN)
		return false;
	barrier_var(len);
	if (len > room - TAG_BYTES)
		return false;
	if (!skb->vlan_present) {
		rec->len = (uint32_t)len;
		return bpf_skb_load_bytes(skb, 0, rec->data, len) == 0;
	}
	rec->len = (uint32_t)len + TAG_BYTES;
	write_tag(skb, rec->data + BOTH_MACS);
	return bpf_skb_load_bytes(skb, 0, rec->data, BOTH_MACS) == 0 &&
	       bpf_skb_load_bytes(skb, BOTH_MACS, rec->data + BOTH_MACS + TAG_BYTES,
				  len - BOTH_MACS) == 0;
}

/* The ring gives out pieces of constant size only, so there are a few sizes. */
static __always_inline void hold_in(struct __sk_buff *skb, bool from_container, const uint32_t room)
{
	struct gate_record *rec = bpf_ringbuf_reserve(&ring, sizeof(*rec) + room, 0);

	if (!rec) {
		count(&counters.ring_full, skb->len);
		return;
	}
	rec->time_ns = bpf_ktime_get_ns();
	rec->gso_bytes = skb->gso_size;
	rec->from_container = from_container;
	if (copy(skb, rec, room)) {
		count(&counters.held, skb->len);
		bpf_ringbuf_submit(rec, 0);
	} else {
		count(&counters.too_long, skb->len);
		bpf_ringbuf_discard(rec, 0);
	}
}

static __always_inline void hold(struct __sk_buff *skb, bool from_container)
{
	uint32_t len = skb->len + TAG_BYTES;

	if (len <= 240)
		hold_in(skb, from_container, 240);
	else if (len <= 1600)
		hold_in(skb, from_container, 1600);
	else if (len <= 9200)
		hold_in(skb, from_container, 9200);
	else if (len <= 24000)
		hold_in(skb, from_container, 24000);
	else if (len <= GATE_FRAME_MAX)
		hold_in(skb, from_container, GATE_FRAME_MAX);
	else
		count(&counters.too_long, skb->len);
}

/* A frame that the container has sent somewhere else: it tells where it is now. */
static __always_inline bool is_its_own(const struct __sk_buff *skb, const uint8_t addresses[BOTH_MACS])
{
	for (int i = 0; i < ETH_ALEN; i++)
		if (addresses[ETH_ALEN + i] != container_mac[i])
			return false;
	heard_on = skb->ingress_ifindex;
	return true;
}

/* Frames to a group reach the container where it is by themselves. What is for it alone and comes
 * from this node goes there; what comes from there went astray. */
static __always_inline int follow(struct __sk_buff *skb, const uint8_t addresses[BOTH_MACS])
{
	if (addresses[0] & 1)
		return TC_ACT_SHOT;
	if (heard_on && skb->ingress_ifindex != heard_on) {
		count(&counters.redirected, skb->len);
		return (int)bpf_redirect(heard_on, 0);
	}
	hold(skb, false);
	return TC_ACT_SHOT;
}

/* While the container doesn't run here, or no longer. */
static __always_inline int stop_to_container(struct __sk_buff *skb, bool away)
{
	uint8_t addresses[BOTH_MACS];

	if (bpf_skb_load_bytes(skb, 0, addresses, sizeof(addresses)) < 0 || is_its_own(skb, addresses))
		return TC_ACT_SHOT;
	if (away)
		return follow(skb, addresses);
	hold(skb, false);
	return TC_ACT_SHOT;
}

/* Who is asked for by ARP, or by neighbour discovery (RFC 4861), answers himself. */
static __always_inline bool is_about_neighbours(struct __sk_buff *skb)
{
	struct { uint8_t version[6], next; } ip6;
	uint8_t type;

	if (skb->protocol == __builtin_bswap16(ETH_P_ARP))
		return true;
	if (skb->protocol != __builtin_bswap16(ETH_P_IPV6) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN, &ip6, sizeof(ip6)) < 0 || ip6.next != NEXT_ICMPV6 ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + IPV6_HEADER, &type, sizeof(type)) < 0)
		return false;
	return type >= ND_FIRST && type <= ND_LAST;
}

/* A TCP segment that wants a new connection (RFC 9293 section 3.5). Whoever holds those
 * may die over it: after a while they pass by themselves. */
static __always_inline bool is_new(struct __sk_buff *skb)
{
	bool six = skb->protocol == __builtin_bswap16(ETH_P_IPV6);
	uint8_t first, next, flags;

	if (bpf_ktime_get_ns() > held_new_until_ns || (!six && skb->protocol != __builtin_bswap16(ETH_P_IP)) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN, &first, 1) < 0 ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + (six ? IPV6_NEXT : IPV4_NEXT), &next, 1) < 0 || next != NEXT_TCP ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + (six ? IPV6_HEADER : (first & 0xf) * 4) + TCP_FLAGS, &flags, 1) < 0)
		return false;
	return (flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

enum verdict { PASS, HOLD, DROP };

static __always_inline int act(struct __sk_buff *skb, bool from_container, enum verdict verdict)
{
	if (verdict == PASS)
		return TC_ACT_OK;
	if (verdict == HOLD)
		hold(skb, from_container);
	return TC_ACT_SHOT;
}

SEC("tc")
int to_container(struct __sk_buff *skb)
{
	uint32_t now = state;

	if (now >= GATE_STATES)
		return TC_ACT_SHOT;
	count(&counters.to[now], skb->len);
	if (now == GATE_HELD || now == GATE_AWAY)
		return stop_to_container(skb, now == GATE_AWAY);
	if (now == GATE_HELD_NEW)
		return act(skb, false, is_new(skb) ? HOLD : PASS);
	return act(skb, false, now == GATE_OPEN ? PASS : now != GATE_HELD_IN ? DROP :
			       is_about_neighbours(skb) ? PASS : HOLD);
}

SEC("tc")
int from_container(struct __sk_buff *skb)
{
	uint32_t now = state;

	if (now >= GATE_STATES)
		return TC_ACT_SHOT;
	count(&counters.from[now], skb->len);
	return act(skb, true, now <= GATE_HELD_IN ? PASS : now == GATE_MUTED ? HOLD : DROP);
}

char apache[] SEC("license") = "Apache-2.0";
