#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "migrate/source_rejoin.h"

#define KEEP_BYTES (8u << 20)		/* of what the target has not confirmed, all connections together */
#define TRY_AGAIN_US 200000
#define TRY_US 2000000			/* for one connection to be made */

static int join(const struct source_connection *c, struct channel **ret, uint64_t *ret_received,
		struct error *err)
{
	const struct source *s = c->source;
	const struct node *node = s->container->node;
	const struct message ours = { .type = WIRE_JOIN, .join = {
		.token = s->report->token, .name = s->container->name, .connection = c->number } };
	CLEANUP(channel_freep) struct channel *fresh = NULL;
	struct message theirs = { 0 };
	struct channel_peer peer;

	if (channel_connect_within(node, s->options->host, TRY_US, s->options->cancelled, &fresh, err) < 0)
		return -err->code;
	channel_set_patience(fresh, TRY_US);
	if (channel_greet(fresh, node->config.name, node->id, &peer, err) < 0)
		return -err->code;
	if (strcmp(peer.id, s->peer.id) != 0)
		return error_set(err, EADDRNOTAVAIL, "%s is another node now", s->options->host);
	channel_set_patience(fresh, TRY_US);
	if (channel_send(fresh, &ours, err) < 0 || channel_begin_again(fresh, node, s->peer.name, err) < 0 ||
	    channel_receive(fresh, WIRE_JOINED, &theirs, err) < 0)
		return -err->code;
	channel_set_patience(fresh, CHANNEL_PATIENCE_US);
	*ret_received = theirs.joined.received;
	message_free(&theirs);
	*ret = TAKE_PTR(fresh);
	return 0;
}

static int reconnect(void *ctx, uint64_t since_us, uint64_t received, struct channel **ret_fresh,
		     uint64_t *ret_received, struct error *err)
{
	const struct source_connection *c = ctx;
	const struct source_options *o = c->source->options;
	const struct channel_stats none = { 0 };

	(void)received;			/* the target says nothing that would be missed */
	if (o->progress && c->number == 0)
		o->progress(o->ctx, "reconnect", &none);
	while (!channel_is_stopped(c->channel)) {
		int r = join(c, ret_fresh, ret_received, err);

		if (r == 0 || r == -ECANCELED || r == -ECONNABORTED || r == -EPROTO)
			return r;
		if (clock_us() - since_us > o->retry_us)
			return error_wrap(err, "no way back to %s for %.3g s", o->host, (double)o->retry_us / 1e6);
		(void)usleep(TRY_AGAIN_US);
	}
	return error_set(err, ECANCELED, "cancelled");
}

static int be_recoverable(struct source_connection *c, unsigned n, struct error *err)
{
	const uint64_t retry_us = c->source->options->retry_us;
	const struct channel_recovery recovery = {
		.reconnect = reconnect, .ctx = c, .again_fd = -EBADF, .dead_us = channel_dead_us(retry_us),
	};
	size_t keep = KEEP_BYTES / n;

	return retry_us ? channel_recoverable(c->channel, &recovery, keep, err) : 0;
}

int source_rejoin_begin(struct source *s, struct error *err)
{
	unsigned n = s->options->connections ? s->options->connections : 1;

	for (unsigned i = 0; i < n; i++) {
		struct source_connection *c = &s->connections[i];
		uint64_t received;

		*c = (struct source_connection){ s, i, i ? NULL : s->channel };
		if (i && join(c, &c->channel, &received, err) < 0)
			return error_wrap(err, "connection %u", i + 1);
		s->n_connections = i + 1;
		if (i) {
			channel_set_level(c->channel, s->options->level);
			channel_share_rate(c->channel, s->channel);
		}
		if (be_recoverable(c, n, err) < 0)
			return -err->code;
	}
	return 0;
}

void source_rejoin_end(struct source *s)
{
	for (unsigned i = 0; i < s->n_connections; i++)
		channel_not_recoverable(s->connections[i].channel);
}

void source_rejoin_close(struct source *s)
{
	for (unsigned i = 1; i < s->n_connections; i++) {
		source_count_bytes(s, s->connections[i].channel);
		channel_free(s->connections[i].channel);
	}
	s->n_connections = 0;
}
