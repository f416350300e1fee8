/*
 * network_gate.h - what is on the host side of a pair in place of an open gate
 *
 * network_gate_set (network.h) puts programs there that drop everything, gate.h
 * one that decides. Private to the engine.
 */
#pragma once

#include "engine/network/network.h"

struct network_batch;

/* Where gates will be. For an interface that is not up yet: later it costs frames. */
void network_gate_add_place(struct network_batch *batch, unsigned ifindex);

/* Replaces the drop programs or adds to an open gate, for frames to the container
 * and from it; the fds are borrowed. When it fails the gate is set to now. */
int network_gate_program(const char *host_ifname, int to_fd, int from_fd, enum network_gate now,
			 struct error *err);

/* The BPF program for frames to the container, by its id; 0: none, or no interface. */
int network_gate_look(const char *host_ifname, uint32_t *ret_id, struct error *err);

/* Replaces such programs by those that drop; -ENOENT or -EINVAL when nothing is
 * there: an open gate stays open. */
int network_gate_unprogram(const char *host_ifname, struct error *err);
