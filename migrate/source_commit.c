/* The source's decision, and what becomes of the original: the half of source.h after RESTORED. */
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/network/gate.h"
#include "migrate/settle.h"
#include "migrate/source.h"

#define ASK_AGAIN_US 500000u
#define ASK_MIN_US 1000000u

static int step(struct source *s, enum protocol_event event, struct error *err)
{
	return protocol_step(&s->protocol, event, settle_does, s, err);
}

/* ---- what the target says ---- */

/* What has gone through one connection is counted before another one replaces it. */
static int ask(struct source *s, uint64_t within_us, enum protocol_event *ret, struct error *err)
{
	struct channel *before = TAKE_PTR(s->channel), *fresh;
	int r = settle_ask(s, within_us, ret, err);

	fresh = s->channel;
	s->channel = before;
	if (!fresh)
		return r;
	source_count_bytes(s, before);
	channel_free(before);
	s->channel = fresh;
	s->asks = true;
	return r;
}

/* Nobody who said how long to ask for waits much longer for a target that is gone. */
static uint64_t time_to_ask(uint64_t end_us)
{
	uint64_t now = clock_us(), left = end_us > now ? end_us - now : 0;

	return left < ASK_MIN_US ? ASK_MIN_US : left > SETTLE_ASK_US ? SETTLE_ASK_US : left;
}

/* Over new connections, until the target says something new. */
static int ask_until(struct source *s, enum protocol_event *ret, struct error *why)
{
	uint64_t end = clock_us() + s->options->settle_us;

	for (;;) {
		struct error err;

		if (ask(s, time_to_ask(end), ret, &err) == 0 &&
		    (*ret != EVENT_TOLD_RESUMED || s->protocol == SOURCE_DECIDED))
			return 0;
		if (clock_us() >= end) {
			why->code = EINPROGRESS;	/* whatever it was: not a refusal */
			return error_wrap(why, s->report->runs_there ?
					  "the target runs it, and does not say that it is on disk there" :
					  "the target does not say whether it runs there");
		}
		(void)usleep(ASK_AGAIN_US);
	}
}

static int hear(struct source *s, enum wire_type type, enum protocol_event *ret, struct error *err)
{
	struct message m = { 0 };
	struct error ignored;

	if (s->asks)
		return ask_until(s, ret, err);
	if (channel_receive(s->channel, type, &m, err) < 0) {
		(void)step(s, EVENT_LINK_LOST, &ignored);
		return ask_until(s, ret, err);
	}
	if (type == WIRE_RESUMED) {
		s->report->resume_us = m.resumed.resume_us;
		timeline_from_message(m.resumed.steps, m.resumed.n_steps, &s->report->resume);
	}
	message_free(&m);
	*ret = type == WIRE_RESUMED ? EVENT_TOLD_RESUMED : EVENT_TOLD_SYNCED;
	return 0;
}

static int take_back(struct source *s, enum protocol_event event, struct error *err)
{
	struct error ignored;

	if (settle_check_lost(s, event, err) < 0 || (step(s, event, err) < 0 && s->protocol != SOURCE_OWES)) {
		err->code = err->code == ECANCELED ? EIO : err->code;	/* it is not taken back */
		return -err->code;
	}
	(void)settle_hear_forgotten(s, &ignored);
	return error_set(err, ECANCELED, event == EVENT_TOLD_LOST ?
			 "the target's machine crashed when it ran there, before it was on disk" :
			 "the target had not begun to run it");
}

/* ---- commit ---- */

static int decide(struct source *s, struct error *err)
{
	struct handover *h = &s->handover;
	struct error ignored;

	if (source_check_cancelled(s, err) < 0)
		return -err->code;
	memcpy(h->token, s->report->token, sizeof(h->token));
	(void)snprintf(h->name, sizeof(h->name), "%s", s->container->name);
	(void)snprintf(h->peer, sizeof(h->peer), "%s", s->options->host);
	(void)snprintf(h->node, sizeof(h->node), "%s", s->peer.name);
	memcpy(h->node_id, s->peer.id, sizeof(h->node_id));
	h->was_paused = s->lease.was_paused;
	h->decided_us = clock_real_us();
	s->protocol = SOURCE_FROZEN;
	if (step(s, EVENT_RESTORED, err) == 0)
		return 0;
	s->asks = s->protocol == SOURCE_DECIDED;	/* COMMIT may not have gone, and both would wait */
	if (s->asks)
		return 0;
	(void)step(s, EVENT_GIVE_UP, &ignored);
	err->code = ECANCELED;
	return -err->code;
}

int source_commit(struct source *s, struct error *err)
{
	enum protocol_event event;

	if (decide(s, err) < 0)
		return -err->code;
	timeline_step(&s->report->frozen, "decide");
	if (hear(s, WIRE_RESUMED, &event, err) < 0)
		return -err->code;
	timeline_step(&s->report->frozen, "resume");
	if (event != EVENT_TOLD_RESUMED && event != EVENT_TOLD_SYNCED)
		return take_back(s, event, err);
	s->report->runs_there = true;
	s->report->downtime_us = s->report->frozen.last_us - s->lease.frozen_us;
	source_learn(s);
	s->synced = event == EVENT_TOLD_SYNCED;
	return step(s, EVENT_TOLD_RESUMED, err);
}

/* ---- sync ---- */

/* Frames that come here still go after it while the target's disk is busy. */
static void forward(struct source *s)
{
	struct pollfd p[] = { { .fd = channel_fd(s->channel), .events = POLLIN },
			      { .fd = s->gate ? gate_fd(s->gate) : -EBADF, .events = POLLIN },
			      { .fd = -EBADF, .events = POLLIN } };

	source_leave_network(s);
	if (s->stand_in)
		p[2].fd = gate_fd(s->stand_in);
	while (poll(p, 3, -1) > 0 && !p[0].revents)
		if (source_send_strays(s) < 0)
			return;
}

int source_sync(struct source *s, struct error *err)
{
	enum protocol_event event;

	if (s->synced)
		return 0;
	if (!s->asks)
		forward(s);
	if (hear(s, WIRE_SYNCED, &event, err) < 0)
		return -err->code;
	return event == EVENT_TOLD_SYNCED ? 0 : take_back(s, event, err);
}

/* ---- release ---- */

/* The target's copy is on disk; who is not told now that it may forget is told later. */
int source_release(struct source *s, struct error *err)
{
	struct error ignored;

	if (!s->asks)
		(void)source_send_strays(s);
	if (step(s, EVENT_TOLD_SYNCED, err) < 0 && s->protocol != SOURCE_OWES)
		return -err->code;
	if (settle_hear_forgotten(s, &ignored) == 0 && !s->asks)
		source_forward(s);
	return 0;
}
