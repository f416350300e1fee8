/* The source's part in what comes for the container over the network while it moves. */
#include "engine/network/gate.h"
#include "migrate/network/forward.h"
#include "migrate/source.h"

void source_arm_gate(struct source *s)
{
	const struct network_endpoint *ep = &s->container->spec->endpoint;
	char ifname[IFNAMSIZ];
	struct error ignored;

	container_host_ifname(s->container, ifname);
	if (ep->address[0] && !s->options->drop_frames &&
	    gate_arm(ifname, -EBADF, GATE_OPEN, &s->gate, &ignored) == 0)
		gate_set_mac(s->gate, ep->mac);
}

static void count(struct source *s)
{
	struct source_held *told = &s->report->held;

	if (!s->gate)
		return;
	gate_read_counters(s->gate, &told->gate);
	told->sent = (struct gate_count){ s->held.frames, s->held.bytes };
	told->no_room = s->held.no_room;
}

static int take(struct source *s, struct gate *gate, struct error *err)
{
	return gate ? held_take(gate, &s->held, err) : 0;
}

int source_send_held(struct source *s, struct error *err)
{
	if (take(s, s->gate, err) < 0 || take(s, s->stand_in, err) < 0)
		return -err->code;
	count(s);
	return held_send(s->channel, &s->held, err);
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
	count(s);
}

int source_send_strays(struct source *s)
{
	struct error ignored;
	int r = source_send_held(s, &ignored);

	s->held.len = s->held.sent = 0;
	return r;
}

/* Takes the container's place on the bridge; without one, what goes astray is lost. */
static void stand_in(struct source *s)
{
	struct network_endpoint ep;
	struct error ignored;

	container_endpoint(s->container, &ep);
	container_stand_in_ifname(s->container, ep.host_ifname);
	if (network_detach(ep.host_ifname, &ignored) < 0 || network_stand_in(&ep, &s->netns, &ignored) < 0 ||
	    gate_arm(ep.host_ifname, -EBADF, GATE_CLOSED, &s->stand_in, &ignored) < 0)
		return;
	gate_set_mac(s->stand_in, ep.mac);
	gate_learn(s->stand_in, s->gate);
	gate_set(s->stand_in, GATE_AWAY);
	(void)network_bridge_pin(ep.host_ifname, ep.mac, &ignored);
}

void source_leave_network(struct source *s)
{
	if (s->gate)
		gate_set(s->gate, GATE_AWAY);
	(void)source_send_strays(s);	/* also when there is nothing: the target waits for it */
	if (s->gate && s->options->forward_us)
		stand_in(s);
}

void source_forward(struct source *s)
{
	const struct forward f = { .channel = s->channel, .gate = s->stand_in, .netns_fd = s->netns,
				   .for_us = s->options->forward_us };
	struct error ignored;

	if (!s->stand_in || forward_start(&f, &ignored) < 0)
		return;
	source_count_bytes(s, s->channel);
	channel_forget(TAKE_PTR(s->channel));
	gate_forget(TAKE_PTR(s->stand_in));
}
