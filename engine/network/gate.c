#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/fault.h"
#include "engine/network/gate.h"
#include "engine/network/gate_ring.h"
#include "engine/network/injector.h"
#include "engine/network/network_gate.h"
#include "engine/gate.skel.h"

/*
 * The skeleton is a light one (bpftool-gen(8), -L): it loads the program by bpf(2)
 * alone, so that nobody who runs a container waits for libbpf and libelf to be
 * linked in. Only this file and gate_look.c see it.
 */

#define BUSY_TRIES 1000		/* a processor is done with its frame long before */
#define STOP 2			/* of a visit */

struct gate {
	char host_ifname[IFNAMSIZ];
	unsigned ifindex;	/* another interface may get the name */
	struct gate_program *program;
	struct gate_ring *ring;
	int netns_fd;
	struct injector *to, *from;	/* opened when there is something to deliver */
	uint64_t age_max_us;
};

static void destroy(struct gate *g)
{
	gate_ring_free(g->ring);
	injector_free(g->to);
	injector_free(g->from);
	fd_close(&g->netns_fd);
	gate_program__destroy(g->program);
	free(g);
}
DEFINE_CLEANUP(struct gate *, destroy)

static int load(struct gate *g, enum gate_state now, struct error *err)
{
	int r;

	g->program = gate_program__open();
	if (!g->program)
		return error_set(err, ENOMEM, "out of memory");
	r = gate_program__load(g->program);
	if (r < 0)
		return error_set(err, -r, "load its BPF program: %s%s", strerror(-r),
				 r == -EPERM ? ": it takes CAP_BPF and CAP_NET_ADMIN" : "");
	gate_set(g, now);
	return gate_ring_open(g->program->maps.ring.map_fd, GATE_RING_BYTES, &g->ring, err);
}

static int arm(struct gate *g, int netns_fd, enum gate_state now, struct error *err)
{
	int r;

	if (netns_fd >= 0) {
		g->netns_fd = fcntl(netns_fd, F_DUPFD_CLOEXEC, 0);
		if (g->netns_fd < 0)
			return error_set(err, errno, "keep its network namespace: %s", strerror(errno));
	}
	r = load(g, now, err);
	if (r == 0)
		r = network_gate_program(g->host_ifname, g->program->progs.to_container.prog_fd,
					 g->program->progs.from_container.prog_fd,
					 now == GATE_OPEN ? NETWORK_GATE_OPEN : NETWORK_GATE_CLOSED, err);
	return r;
}

int gate_arm(const char *host_ifname, int netns_fd, enum gate_state now, struct gate **ret,
	     struct error *err)
{
	CLEANUP(destroyp) struct gate *g = calloc(1, sizeof(*g));
	int r;

	if (!g)
		return error_set(err, ENOMEM, "out of memory");
	g->netns_fd = -EBADF;
	g->age_max_us = fault_value("held-age-ms", GATE_AGE_MAX_US / 1000) * 1000;
	if (strlen(host_ifname) >= sizeof(g->host_ifname))
		return error_set(err, ENODEV, "there is no interface %s on this node", host_ifname);
	strcpy(g->host_ifname, host_ifname);
	g->ifindex = if_nametoindex(host_ifname);
	r = arm(g, netns_fd, now, err);
	if (r < 0)
		return error_wrap(err, "arm the gate of %s", host_ifname);
	*ret = TAKE_PTR(g);
	return 0;
}

void gate_set(struct gate *gate, enum gate_state state)
{
	__atomic_store_n(&gate->program->bss->state, state, __ATOMIC_SEQ_CST);
}

void gate_hold_new(struct gate *gate, uint64_t for_us)
{
	gate->program->bss->held_new_until_ns = (clock_us() + for_us) * 1000;
	gate_set(gate, GATE_HELD_NEW);
}

void gate_set_mac(struct gate *gate, const uint8_t mac[6])
{
	memcpy(gate->program->bss->container_mac, mac, sizeof(gate->program->bss->container_mac));
}

void gate_learn(struct gate *gate, const struct gate *other)
{
	gate->program->bss->heard_on = other->program->bss->heard_on;
}

static enum gate_state state_of(const struct gate *gate)
{
	return __atomic_load_n(&gate->program->bss->state, __ATOMIC_SEQ_CST);
}

static void count(struct gate_count *c, uint32_t bytes)
{
	c->frames++;
	c->bytes += bytes;
}

struct taking {
	struct gate *gate;
	gate_visit *visit;
	void *data;
	struct error *err;
};

static int take_record(const void *record, size_t size, void *data)
{
	const struct gate_record *rec = record;
	const struct taking *t = data;
	struct gate_frame frame;

	if (size < sizeof(*rec) || rec->len > size - sizeof(*rec))
		return error_set(t->err, EPROTO, "a held frame is longer than its record");
	frame = (struct gate_frame){
		.data = rec->data,
		.len = rec->len,
		.gso_bytes = rec->gso_bytes,
		.time_us = rec->time_ns / 1000,
		.from_container = rec->from_container,
	};
	if (frame.time_us + t->gate->age_max_us < clock_us()) {
		count(&t->gate->program->bss->counters.expired, frame.len);
		return 0;
	}
	return t->visit(&frame, t->data, t->err);
}

int gate_take(struct gate *gate, gate_visit *visit, void *data, struct error *err)
{
	struct taking t = { .gate = gate, .visit = visit, .data = data, .err = err };

	return gate_ring_take(gate->ring, take_record, &t);
}

bool gate_is_there(const struct gate *gate)
{
	return if_nametoindex(gate->host_ifname) == gate->ifindex;
}

int gate_fd(const struct gate *gate)
{
	return gate->program->maps.ring.map_fd;
}

struct delivery {
	struct gate *gate;
	uint64_t bytes;
	uint64_t bytes_max;
};

static int injector_for(struct gate *gate, bool from_container, struct injector **ret,
			struct error *err)
{
	struct injector **slot = from_container ? &gate->from : &gate->to;
	int r = 0;

	if (from_container && gate->netns_fd < 0)
		return error_set(err, EINVAL, "the gate of %s was armed without a network namespace",
				 gate->host_ifname);
	if (!*slot)
		r = injector_open(from_container ? gate->netns_fd : -EBADF,
				  from_container ? "eth0" : gate->host_ifname, true, slot, err);
	*ret = *slot;
	return r;
}

int gate_deliver(struct gate *gate, const struct gate_frame *frame, struct error *err)
{
	struct injector *injector = NULL;
	int r;

	r = injector_for(gate, frame->from_container, &injector, err);
	if (r == 0)
		r = injector_send(injector, frame, err);
	count(r < 0 ? &gate->program->bss->counters.undelivered : &gate->program->bss->counters.injected,
	      frame->len);
	return r;
}

/* Stops after bytes_max: who sends faster than we deliver must not keep us. */
static int deliver(const struct gate_frame *frame, void *data, struct error *err)
{
	struct delivery *d = data;

	(void)gate_deliver(d->gate, frame, err);
	d->bytes += frame->len;
	return d->bytes > d->bytes_max ? -EAGAIN : 0;
}

/* What comes for the container stays in the ring. */
static int deliver_from_container(const struct gate_frame *frame, void *data, struct error *err)
{
	return frame->from_container ? deliver(frame, data, err) : STOP;
}

static void deliver_held(struct gate *gate, gate_visit *visit, uint64_t bytes_max)
{
	struct delivery d = { .gate = gate, .bytes_max = bytes_max };
	struct error ignored;

	for (int i = 0; i < BUSY_TRIES && gate_take(gate, visit, &d, &ignored) == 1; i++)
		(void)sched_yield();
}

void gate_unmute(struct gate *gate)
{
	gate_set(gate, GATE_HELD_IN);
	deliver_held(gate, deliver_from_container, UINT64_MAX);
}

void gate_release(struct gate *gate)
{
	gate_set(gate, GATE_HELD_IN);
	deliver_held(gate, deliver, GATE_RING_BYTES);
	gate_set(gate, GATE_OPEN);
	deliver_held(gate, deliver, UINT64_MAX);
}

void gate_read_counters(const struct gate *gate, struct gate_counters *ret)
{
	*ret = gate->program->bss->counters;
}

void gate_forget(struct gate *gate)
{
	if (gate)
		destroy(gate);
}

void gate_free(struct gate *gate)
{
	struct error ignored;

	if (!gate)
		return;
	if (!gate_is_there(gate)) {
		;	/* its interface has gone, and another one may have its name */
	} else if (state_of(gate) == GATE_OPEN) {
		(void)network_gate_set(gate->host_ifname, NETWORK_GATE_OPEN, &ignored);
		deliver_held(gate, deliver, UINT64_MAX);	/* what came just as it was opened */
	} else {
		(void)network_gate_unprogram(gate->host_ifname, &ignored);
	}
	destroy(gate);
}
