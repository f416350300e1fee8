#include <string.h>
#include <unistd.h>

#include "engine/base/fault.h"
#include "engine/base/fd.h"
#include "engine/network/departed.h"
#include "engine/network/placement.h"
#include "migrate/network/held.h"
#include "migrate/release.h"
#include "migrate/settle.h"

#define FORGOTTEN_US 10000000u

/* ---- the source's actions ---- */

static int write_decision(void *ctx, struct error *err)
{
	const struct source *s = ctx;

	return handover_write(s->container, &s->handover, err);
}

static int remove_decision(void *ctx, struct error *err)
{
	const struct source *s = ctx;

	return handover_remove(s->container, err);
}

/* Frozen without a monitor, or not alive at all: then it can be started again. */
static int thaw_without_monitor(const struct source *s, struct error *err)
{
	struct container_state st;

	if (container_state(s->container, &st, err) < 0)
		return -err->code;
	return st.alive ? lease_thaw_without_monitor(s->container, s->handover.was_paused, err) : 0;
}

static int thaw(void *ctx, struct error *err)
{
	struct source *s = ctx;

	if (s->lease.fd < 0)
		return thaw_without_monitor(s, err);
	source_thaw(s);
	return 0;
}

static int write_release(void *ctx, struct error *err)
{
	const struct source *s = ctx;

	return release_write(s->node, &s->handover, err);
}

static int remove_release(void *ctx, struct error *err)
{
	const struct source *s = ctx;

	return release_remove(s->node, s->handover.token, err);
}

static void on_stray(void *ctx)
{
	(void)source_send_strays(ctx);
}

static int destroy(void *ctx, struct error *err)
{
	struct source *s = ctx;
	const struct lease_wait wait = { s->stand_in ? gate_fd(s->stand_in) : -EBADF, on_stray, s };
	const struct container *c = s->container;
	char ifname[IFNAMSIZ];
	struct error ignored;

	/* Its sockets say farewell when they are killed, and its peers talk with the copy. */
	if (placement_leave(c, err) < 0)
		return -err->code;
	if (c->spec->endpoint.address[0] && !c->spec->endpoint.network[0])
		(void)departed_note(s->node, c->spec->endpoint.address, &ignored);
	container_host_ifname(c, ifname);
	if (!s->gate && c->spec->endpoint.address[0])
		(void)network_gate_set(ifname, NETWORK_GATE_CLOSED, &ignored);
	if ((s->lease.fd < 0 || lease_discard(&s->lease, &wait, &ignored) < 0) && container_clean(c, false, err) < 0)
		return -err->code;
	fault_pass("original-gone");
	if (fault_point("original-sync", err) < 0)
		return error_wrap(err, "remove the original");
	return fsync(s->node->containers_fd) < 0 ?
		error_set(err, errno, "remove the original: fsync: %s", strerror(errno)) : 0;
}

static int send_commit(void *ctx, struct error *err)
{
	struct source *s = ctx;
	const struct message m = { .type = WIRE_COMMIT, .commit.token = s->handover.token };

	channel_not_cancellable(s->channel);
	if (source_send_held(s, err) < 0)
		return -err->code;
	return channel_send(s->channel, &m, err);
}

static int send_query(void *ctx, struct error *err)
{
	struct source *s = ctx;
	const struct message m = { .type = WIRE_QUERY, .query.token = s->handover.token };

	return channel_send(s->channel, &m, err);
}

static int send_release(void *ctx, struct error *err)
{
	struct source *s = ctx;
	const struct message m = { .type = WIRE_RELEASE, .release.token = s->handover.token };

	return s->channel ? channel_send(s->channel, &m, err) : 0;
}

static int sync_folder(int dirfd, const char *name, struct error *err)
{
	CLEANUP(fd_closep) int fd = -EBADF;
	int r = fd_open_dir_at(dirfd, name, false, 0, &fd, err);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	return fsync(fd) < 0 ? error_set(err, errno, "fsync %s: %s", name, strerror(errno)) : 0;
}

/* The decision lay in the container's folder, and went with it or from it. */
static int sync_removal(void *ctx, struct error *err)
{
	const struct source *s = ctx;
	int containers = s->node->containers_fd;

	if (sync_folder(containers, s->handover.name, err) < 0)
		return -err->code;
	return sync_folder(containers, ".", err);
}

const protocol_do settle_does[PROTOCOL_ACTION_MAX_] = {
	[ACTION_THAW] = thaw, [ACTION_WRITE_DECISION] = write_decision, [ACTION_REMOVE_DECISION] = remove_decision,
	[ACTION_WRITE_RELEASE] = write_release, [ACTION_REMOVE_RELEASE] = remove_release, [ACTION_DESTROY] = destroy,
	[ACTION_SYNC_REMOVAL] = sync_removal, [ACTION_SEND_COMMIT] = send_commit, [ACTION_SEND_QUERY] = send_query,
	[ACTION_SEND_RELEASE] = send_release,
};

/* ---- asking ---- */

static int connect_to(const struct node *node, const struct handover *h, uint64_t within_us, struct channel **ret,
		      bool *ret_same, struct error *err)
{
	CLEANUP(channel_freep) struct channel *fresh = NULL;
	struct channel_peer peer;

	if (channel_connect_within(node, h->peer, within_us, NULL, &fresh, err) < 0)
		return -err->code;
	channel_set_patience(fresh, within_us);
	if (channel_greet(fresh, node->config.name, node->id, &peer, err) < 0)
		return -err->code;
	*ret_same = strcmp(peer.id, h->node_id) == 0;
	if (!*ret_same)
		(void)error_set(err, EADDRNOTAVAIL, "%s is node '%s' (id %s) now, but '%s' (id %s) has the answer",
				h->peer, peer.name, peer.id, h->node, h->node_id);
	*ret = TAKE_PTR(fresh);
	return 0;
}

int settle_ask(struct source *s, uint64_t within_us, enum protocol_event *ret, struct error *err)
{
	struct channel *fresh = NULL;
	struct message m = { 0 };
	bool same;

	fault_pass("query-begin");
	if (connect_to(s->node, &s->handover, within_us, &fresh, &same, err) < 0)
		return -err->code;
	channel_free(s->channel);
	s->channel = fresh;
	/* Not even asked: a stranger's answer means nothing, and it would keep a record of it. */
	if (!same) {
		struct error ignored;

		(void)protocol_step(&s->protocol, protocol_told(MESSAGE_OUTCOME_REFUSED, false), settle_does, s,
				    &ignored);
		return -err->code;
	}
	if (protocol_step(&s->protocol, EVENT_ASK, settle_does, s, err) < 0 ||
	    channel_receive(s->channel, WIRE_ANSWER, &m, err) < 0)
		return -err->code;
	*ret = protocol_told(m.answer.outcome, same);
	message_free(&m);
	fault_pass("query-end");
	return 0;
}

int settle_hear_forgotten(struct source *s, struct error *err)
{
	struct message m = { 0 };

	channel_set_patience(s->channel, FORGOTTEN_US);
	if (channel_receive(s->channel, WIRE_FORGOTTEN, &m, err) < 0)
		return -err->code;
	message_free(&m);
	return protocol_step(&s->protocol, EVENT_FORGOTTEN, settle_does, s, err);
}

/* ---- a later command ---- */

static bool can_write_volumes(const struct spec *spec)
{
	for (size_t i = 0; i < spec->n_volumes; i++)
		if (!spec->volumes[i].read_only)
			return true;
	return false;
}

int settle_check_lost(const struct source *s, enum protocol_event event, struct error *err)
{
	if (event != EVENT_TOLD_LOST || !can_write_volumes(s->container->spec))
		return 0;
	return error_set(err, ESTALE, "%s ran it and lost it when its machine crashed; what is in its volumes may be "
			 "newer than its memory here, so it stays frozen; 'godwit resolve %s' with --resume-here or "
			 "--gone settles it", s->handover.node, s->container->name);
}

static void end(struct source *s)
{
	channel_free(s->channel);
	lease_closep(&s->lease);
}

/* Its monitor thaws it only for whoever holds it. */
static void take_hold(struct source *s, bool to_thaw)
{
	struct error ignored;

	if (lease_open(s->container, &s->lease, &ignored) == 0 && to_thaw &&
	    lease_freeze(&s->lease, false, &ignored) < 0)
		lease_closep(&s->lease);
}

static int act(struct source *s, enum protocol_event event, struct error *err)
{
	struct error ignored;

	take_hold(s, event != EVENT_TOLD_SYNCED && event != EVENT_ORDER_GONE);
	if (protocol_step(&s->protocol, event, settle_does, s, err) < 0 && s->protocol != SOURCE_OWES)
		return -err->code;
	if (s->channel)
		(void)settle_hear_forgotten(s, &ignored);
	return 0;
}

static struct source later(struct container *c)
{
	return (struct source){ .node = c->node, .container = c, .protocol = SOURCE_DECIDED, SOURCE_EMPTY };
}

int settle_container(struct container *c, enum settled *ret, struct error *err)
{
	CLEANUP(end) struct source s = later(c);
	enum protocol_event event;

	if (handover_read(c, &s.handover, err) < 0 || settle_ask(&s, SETTLE_ASK_US, &event, err) < 0 ||
	    settle_check_lost(&s, event, err) < 0)
		return -err->code;
	if (event == EVENT_TOLD_RESUMED)
		return error_set(err, EINPROGRESS, "%s runs it, and has not got all of it on disk yet; "
				 "the original is kept until then", s.handover.node);
	if (act(&s, event, err) < 0)
		return -err->code;
	*ret = event == EVENT_TOLD_SYNCED ? SETTLED_GONE :
	       event == EVENT_TOLD_LOST ? SETTLED_LOST_THERE : SETTLED_HERE;
	return 0;
}

int settle_by_hand(struct container *c, bool gone, struct error *err)
{
	CLEANUP(end) struct source s = later(c);

	if (handover_read(c, &s.handover, err) < 0)
		return -err->code;
	return act(&s, gone ? EVENT_ORDER_GONE : EVENT_ORDER_RESUME, err);
}

static bool is_decided(const struct node *node, const struct handover *h)
{
	CLEANUP(container_freep) struct container *c = NULL;
	struct handover now;
	struct error ignored;

	return container_open(node, h->name, &c, &ignored) == 0 && handover_read(c, &now, &ignored) == 0 &&
	       !strcmp(now.token, h->token);
}

int settle_release(const struct node *node, const char *token, struct error *err)
{
	CLEANUP(end) struct source s = { .node = node, .protocol = SOURCE_OWES, SOURCE_EMPTY };
	bool same;

	if (release_read(node, token, &s.handover, err) < 0)
		return -err->code;
	if (is_decided(node, &s.handover))
		return error_set(err, EAGAIN, "container '%s' is in doubt still", s.handover.name);
	if (connect_to(node, &s.handover, SETTLE_ASK_US, &s.channel, &same, err) < 0)
		return -err->code;
	if (!same)
		return -err->code;
	if (protocol_step(&s.protocol, EVENT_ASK, settle_does, &s, err) < 0)
		return -err->code;
	return settle_hear_forgotten(&s, err);
}
