/* The source's decision, and what becomes of the original: the half of source.h after RESTORED. */
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/fault.h"
#include "migrate/source.h"

/* ---- commit ---- */

static int decide(struct source *s, struct error *err)
{
	struct handover *h = &s->handover;
	struct error ignored;

	if (s->options->cancelled && *s->options->cancelled)
		return error_set(err, ECANCELED, "cancelled");
	memcpy(h->token, s->report->token, sizeof(h->token));
	(void)snprintf(h->peer, sizeof(h->peer), "%s", s->options->host);
	(void)snprintf(h->node, sizeof(h->node), "%s", s->peer.name);
	memcpy(h->node_id, s->peer.id, sizeof(h->node_id));
	h->decided_us = clock_real_us();
	if (handover_write(s->container, h, err) == 0)
		return 0;
	(void)handover_remove(s->container, &ignored);
	err->code = ECANCELED;		/* nothing is decided: the caller takes it back */
	return -err->code;
}

static int send_commit(struct source *s, struct error *err)
{
	const struct message commit = { .type = WIRE_COMMIT, .commit.token = s->handover.token };
	struct message m = { 0 };

	if (source_send_held(s, err) < 0 || channel_send(s->channel, &commit, err) < 0 ||
	    channel_receive(s->channel, WIRE_RESUMED, &m, err) < 0)
		return -err->code;
	s->report->resume_us = m.resumed.resume_us;
	message_free(&m);
	return 0;
}

/* Over a new connection, *ret_channel, when the target answers. */
static int ask(const struct container *c, const struct handover *h, struct channel **ret_channel,
	       enum message_outcome *ret, struct error *err)
{
	const struct message query = { .type = WIRE_QUERY, .query.token = h->token };
	CLEANUP(channel_freep) struct channel *fresh = NULL;
	struct message m = { 0 };
	struct channel_peer peer;

	fault_pass("query-begin");
	if (channel_connect(h->peer, NULL, &fresh, err) < 0 ||
	    channel_greet(fresh, c->node->config.name, c->node->id, &peer, err) < 0)
		return -err->code;
	/* Another node knows nothing of it, and would say no, whatever it is called. */
	if (strcmp(peer.id, h->node_id) != 0)
		return error_set(err, EADDRNOTAVAIL, "%s is node '%s' (id %s) now, but '%s' (id %s) has the answer",
				 h->peer, peer.name, peer.id, h->node, h->node_id);
	if (channel_send(fresh, &query, err) < 0 ||
	    channel_receive(fresh, WIRE_ANSWER, &m, err) < 0)
		return -err->code;
	*ret = m.answer.outcome;
	message_free(&m);
	fault_pass("query-end");
	*ret_channel = TAKE_PTR(fresh);
	return 0;
}

/* 0: it runs there. -ECANCELED: it never will. Else nobody knows yet. */
static int ask_until(struct source *s, struct error *why)
{
	uint64_t end = clock_us() + s->options->settle_us;
	enum message_outcome outcome;
	struct error err;

	for (;;) {
		struct channel *fresh = NULL;

		if (ask(s->container, &s->handover, &fresh, &outcome, &err) == 0) {
			source_count_bytes(s);
			channel_free(s->channel);
			s->channel = fresh;
			if (outcome == MESSAGE_OUTCOME_RESUMED)
				return 0;
			if (outcome == MESSAGE_OUTCOME_REFUSED)
				return error_set(why, ECANCELED, "the target had not begun to run it");
		}
		if (clock_us() >= end) {
			why->code = EINPROGRESS;	/* whatever it was: not a refusal */
			return error_wrap(why, "the target does not say whether it runs there");
		}
		(void)usleep(500000);
	}
}

int source_commit(struct source *s, struct error *err)
{
	if (decide(s, err) < 0)
		return -err->code;
	channel_not_cancellable(s->channel);
	if (send_commit(s, err) < 0 && ask_until(s, err) < 0)
		return -err->code;
	s->report->downtime_us = clock_us() - s->lease.frozen_us;
	source_learn(s);
	return 0;
}

void source_take_back(struct source *s)
{
	struct error ignored;

	(void)handover_remove(s->container, &ignored);
}

/* ---- release ---- */

static int destroy_original(struct container *c, struct lease_hold *lease, struct error *err)
{
	struct error ignored;

	if (lease->fd >= 0 && lease_discard(lease, &ignored) == 0)
		return 0;
	return container_clean(c, false, err);
}

int source_release(struct source *s, struct error *err)
{
	const struct message m = { .type = WIRE_RELEASE, .release.token = s->handover.token };
	struct error ignored;

	if (s->gate)
		gate_set(s->gate, GATE_AWAY);
	(void)source_send_held(s, &ignored);
	if (destroy_original(s->container, &s->lease, err) < 0)
		return -err->code;
	fault_pass("original-gone");
	/* The target may forget only what can't come back here. */
	if (fault_point("original-sync", &ignored) == 0 && fsync(s->container->node->containers_fd) == 0)
		(void)channel_send(s->channel, &m, &ignored);
	return 0;
}

/* ---- in doubt ---- */

/* Frozen without a monitor, or not alive at all: then it can be started again. */
static int go_on_without_monitor(struct container *c, struct error *err)
{
	struct container_state st;

	if (container_state(c, &st, err) < 0 || handover_remove(c, err) < 0)
		return -err->code;
	return container_status_is_live(st.status) ? lease_thaw_without_monitor(c, false, err) : 0;
}

int source_settle_by_hand(struct container *c, bool gone, struct error *err)
{
	CLEANUP(lease_closep) struct lease_hold lease = LEASE_HOLD_EMPTY;
	struct error ignored;

	(void)lease_open(c, &lease, &ignored);
	if (gone)
		return destroy_original(c, &lease, err);
	if (lease.fd < 0)
		return go_on_without_monitor(c, err);
	if (lease_freeze(&lease, false, err) < 0 || handover_remove(c, err) < 0)
		return -err->code;
	return lease_thaw(&lease, err);
}

int source_settle(struct container *c, bool *ret_gone, struct error *err)
{
	CLEANUP(channel_freep) struct channel *ch = NULL;
	enum message_outcome outcome;
	struct message release = { .type = WIRE_RELEASE };
	struct handover h;
	struct error ignored;

	if (handover_read(c, &h, err) < 0 || ask(c, &h, &ch, &outcome, err) < 0)
		return -err->code;
	if (outcome != MESSAGE_OUTCOME_RESUMED && outcome != MESSAGE_OUTCOME_REFUSED)
		return error_set(err, EINPROGRESS, "%s has not decided yet", h.peer);
	*ret_gone = outcome == MESSAGE_OUTCOME_RESUMED;
	if (source_settle_by_hand(c, *ret_gone, err) < 0)
		return -err->code;
	release.release.token = h.token;
	if (*ret_gone && fault_point("original-sync", &ignored) == 0 && fsync(c->node->containers_fd) == 0)
		(void)channel_send(ch, &release, &ignored);
	return 0;
}
