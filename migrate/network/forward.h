/*
 * forward.h - what still comes to the node that a container has left
 *
 * A switch that has not heard of the move sends frames here for a moment, or for
 * as long as it doesn't hear. A process of its own takes them from the gate
 * (GATE_AWAY) and sends them on as HELD trees, so that nobody waits for it who
 * only wants the container moved. It alone has the namespace of the interface that
 * stands in for the container (network_stand_in), so that interface, gate and the
 * bridge's entry for the MAC go when it ends, in whatever way. Neither does it
 * outlive the connection.
 */
#pragma once

#include "engine/network/gate.h"
#include "migrate/channel/channel.h"

struct forward {
	struct channel *channel;	/* after RELEASE */
	struct gate *gate;
	int netns_fd;
	uint64_t for_us;
};

/* Forks it. All that *f names is then the new process's: the caller lets go of it,
 * channel and gate by channel_forget and gate_forget. */
int forward_start(const struct forward *f, struct error *err);
