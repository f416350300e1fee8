#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "migrate/source_rejoin.h"

#define KEEP_BYTES (8u << 20)		/* of what the target has not confirmed */
#define TRY_AGAIN_US 200000
#define TRY_US 2000000			/* for one connection to be made */

static int join(struct source *s, struct channel **ret, uint64_t *ret_received, struct error *err)
{
	const struct node *node = s->container->node;
	const struct message ours = { .type = WIRE_JOIN, .join = {
		.token = s->report->token, .name = s->container->name } };
	CLEANUP(channel_freep) struct channel *fresh = NULL;
	struct message theirs = { 0 };
	struct channel_peer peer;

	if (channel_connect_within(s->options->host, TRY_US, s->options->cancelled, &fresh, err) < 0)
		return -err->code;
	channel_set_patience(fresh, TRY_US);
	if (channel_greet(fresh, node->config.name, node->id, &peer, err) < 0)
		return -err->code;
	if (strcmp(peer.id, s->peer.id) != 0)
		return error_set(err, EADDRNOTAVAIL, "%s is another node now", s->options->host);
	channel_set_patience(fresh, TRY_US);
	if (channel_send(fresh, &ours, err) < 0 || channel_receive(fresh, WIRE_JOINED, &theirs, err) < 0)
		return -err->code;
	*ret_received = theirs.joined.received;
	message_free(&theirs);
	*ret = TAKE_PTR(fresh);
	return 0;
}

static int reconnect(void *ctx, uint64_t since_us, uint64_t received, struct channel **ret_fresh,
		     uint64_t *ret_received, struct error *err)
{
	const struct channel_stats none = { 0 };
	struct source *s = ctx;

	(void)received;			/* the target says nothing that would be missed */
	if (s->options->progress)
		s->options->progress(s->options->ctx, "reconnect", &none);
	for (;;) {
		int r = join(s, ret_fresh, ret_received, err);

		if (r == 0 || r == -ECANCELED || r == -ECONNABORTED || r == -EPROTO)
			return r;
		if (clock_us() - since_us > s->options->retry_us)
			return error_wrap(err, "no way back to %s for %.3g s", s->options->host,
					  (double)s->options->retry_us / 1e6);
		(void)usleep(TRY_AGAIN_US);
	}
}

int source_rejoin_begin(struct source *s, struct error *err)
{
	const uint64_t retry_us = s->options->retry_us;
	const struct channel_recovery recovery = {
		.reconnect = reconnect, .ctx = s, .again_fd = -EBADF,
		.dead_us = channel_dead_us(retry_us),
	};

	return retry_us ? channel_recoverable(s->channel, &recovery, KEEP_BYTES, err) : 0;
}

void source_rejoin_end(struct source *s)
{
	channel_not_recoverable(s->channel);
}
