/*
 * gate_shared.h - what the gate's BPF program and gate.c have in common
 *
 * The program's state and counters are global variables that both sides see as
 * memory, what it holds comes through a BPF ring buffer as struct gate_record.
 */
#pragma once

#include <stdint.h>

#define GATE_RING_BYTES (4 << 20)	/* a power of two and of pages */
#define GATE_FRAME_MAX (65536 + 64)	/* the longest frame that is held */

enum gate_state { GATE_OPEN, GATE_HELD_NEW, GATE_HELD_IN, GATE_HELD, GATE_AWAY, GATE_MUTED, GATE_CLOSED };
#define GATE_STATES 7

struct gate_count {
	uint64_t frames;
	uint64_t bytes;
};

struct gate_counters {
	struct gate_count to[GATE_STATES];	/* for the container, by the state they met */
	struct gate_count from[GATE_STATES];	/* sent by the container */
	struct gate_count held;			/* in the ring, or taken from there */
	struct gate_count ring_full;		/* to be held, but lost */
	struct gate_count redirected;		/* to where the container is now */
	struct gate_count too_long;		/* the same, beyond GATE_FRAME_MAX */
	/* By gate.c, of those that were held, here or on another node. */
	struct gate_count expired;		/* too old when they were taken: lost */
	struct gate_count injected;		/* delivered */
	struct gate_count undelivered;		/* the interface refused them */
};

struct gate_record {
	uint64_t time_ns;	/* CLOCK_MONOTONIC */
	uint32_t len;		/* of data */
	uint32_t gso_bytes;
	uint32_t from_container;
	uint8_t data[];
};
