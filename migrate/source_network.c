/* The source's part in what comes for the container over the network while it moves. */
#include "engine/gate.h"
#include "migrate/source.h"

void source_arm_gate(struct source *s)
{
	const struct network_endpoint *ep = &s->container->spec->endpoint;
	char ifname[IFNAMSIZ];
	struct error ignored;

	container_host_ifname(s->container, ifname);
	if (!ep->address[0] || gate_arm(ifname, -EBADF, GATE_OPEN, &s->gate, &ignored) < 0)
		s->gate = NULL;
	else
		gate_set_mac(s->gate, ep->mac);
}

static void count(struct source *s)
{
	struct source_held *told = &s->report->held;
	struct gate_counters n;

	gate_read_counters(s->gate, &n);
	told->sent = (struct gate_count){ s->held.frames, s->held.bytes };
	told->full = n.ring_full;
	told->too_long = n.too_long;
	told->too_old = s->held.too_old;
}

int source_send_held(struct source *s, struct error *err)
{
	int r = s->gate ? held_take(s->gate, &s->held, err) : 0;

	if (s->gate)
		count(s);
	return r < 0 ? r : held_send(s->channel, &s->held, err);
}

static int by_gate(void *ctx, const struct gate_frame *frame, struct error *err)
{
	return gate_deliver(ctx, frame, err);
}

void source_open_gate(struct source *s)
{
	if (!s->gate)
		return;
	gate_set(s->gate, GATE_HELD_IN);
	held_deliver(&s->held, by_gate, s->gate);
	gate_release(s->gate);
}
