#include <poll.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/fault.h"
#include "engine/base/fd.h"
#include "migrate/channel_state.h"
#include "migrate/door.h"
#include "migrate/incoming.h"
#include "migrate/target_rejoin.h"
#include "migrate/token.h"

#define JOIN_DOOR "join"
#define YIELD_DOOR "yield"		/* open while the source is gone */
#define WAIT_MAX_US (600ull * 1000000)
#define WAIT_LONGER_S 5			/* than the source tries */
#define TAKE_OVER_MS 10000

static uint64_t wait_us(const struct target *t)
{
	uint64_t retry_us = t->offer.offer.retry_us;

	return (retry_us < WAIT_MAX_US ? retry_us : WAIT_MAX_US) +
	       fault_value("keep-longer-s", WAIT_LONGER_S) * 1000000;
}

/* The connection that was handed over: what has come here is said on it. -EAGAIN
 * when it is of no use. */
static int take_connection(struct target *t, uint64_t received, struct channel **ret, struct error *err)
{
	const struct message joined = { .type = WIRE_JOINED, .joined.received = received };
	CLEANUP(channel_freep) struct channel *fresh = NULL;
	CLEANUP(fd_closep) int caller = -EBADF;
	int fd = -EBADF;

	if (door_answer(t->join_door, &caller, &fd, err) < 0 || fd < 0 || channel_accept(fd, &fresh, err) < 0)
		return -EAGAIN;
	fresh->sequence.state = SEQUENCE_JOINING;
	if (channel_send(fresh, &joined, err) < 0)
		return -EAGAIN;
	*ret = TAKE_PTR(fresh);
	return 0;
}

/* Its connection to us is held until this process has ended. */
static int yield(struct target *t, int yield_door, struct error *err)
{
	int nothing = -EBADF;

	if (door_answer(yield_door, &t->successor, &nothing, err) < 0)
		return 0;
	fd_close(&nothing);
	return error_set(err, ECANCELED, "its source begins anew");
}

static int await(struct target *t, uint64_t end_us, int yield_door, uint64_t received, struct channel **ret,
		 struct error *err)
{
	struct pollfd p[] = { { .fd = t->join_door, .events = POLLIN },
			      { .fd = yield_door, .events = POLLIN } };

	for (uint64_t now = clock_us(); now < end_us; now = clock_us()) {
		if (poll(p, 2, (int)((end_us - now + 999) / 1000)) < 0 && errno != EINTR)
			return error_set(err, errno, "poll: %s", strerror(errno));
		if (p[0].revents && take_connection(t, received, ret, err) == 0)
			return 0;
		if (p[1].revents && yield(t, yield_door, err) < 0)
			return -err->code;
	}
	return error_set(err, ETIMEDOUT, "the source has not come back for %.3g s", (double)wait_us(t) / 1e6);
}

static int reconnect(void *ctx, uint64_t since_us, uint64_t received, struct channel **ret_fresh,
		     uint64_t *ret_received, struct error *err)
{
	struct target *t = ctx;
	const int dir = t->container->dir_fd;
	struct error ignored;
	int yield_door = -EBADF, r;

	target_say(t, "container '%s': the connection to %s is lost; what has come is kept for %.3g s",
		   t->container->name, t->peer.name, (double)wait_us(t) / 1e6);
	(void)door_open(dir, YIELD_DOOR, &yield_door, &ignored);
	r = await(t, since_us + wait_us(t), yield_door, received, ret_fresh, err);
	door_close(dir, YIELD_DOOR, &yield_door);
	*ret_received = 0;		/* nothing is kept here */
	if (r == 0)
		target_say(t, "container '%s': %s is back, and goes on", t->container->name, t->peer.name);
	return r;
}

int target_rejoin_begin(struct target *t, struct error *err)
{
	struct channel_recovery recovery = { .reconnect = reconnect, .ctx = t,
					     .dead_us = channel_dead_us(t->offer.offer.retry_us) };

	if (!t->offer.offer.retry_us)
		return 0;
	if (door_open(t->container->dir_fd, JOIN_DOOR, &t->join_door, err) < 0)
		return -err->code;
	recovery.again_fd = t->join_door;
	return channel_recoverable(t->channel, &recovery, 0, err);
}

void target_rejoin_end(struct target *t)
{
	channel_not_recoverable(t->channel);
	if (t->container)
		door_close(t->container->dir_fd, JOIN_DOOR, &t->join_door);
}

int target_rejoin_hand_over(const struct node *node, const struct message_join *join, int fd,
			    struct error *err)
{
	CLEANUP(container_freep) struct container *c = NULL;
	CLEANUP(freep) char *token = NULL;
	struct error why;

	if (container_open(node, join->name, &c, &why) < 0 ||
	    fd_read_file_at(c->dir_fd, INCOMING_MARK, TOKEN_SIZE, &token, NULL, &why) < 0 ||
	    strcmp(token, join->token) != 0 || door_knock(c->dir_fd, JOIN_DOOR, fd, NULL, &why) < 0)
		return error_set(err, EPERM, "no such migration is under way here");
	return 0;
}

void target_rejoin_take_over(const struct node *node, const char *name)
{
	CLEANUP(container_freep) struct container *c = NULL;
	CLEANUP(fd_closep) int caller = -EBADF;
	struct error ignored;

	if (container_open(node, name, &c, &ignored) == 0 &&
	    door_knock(c->dir_fd, YIELD_DOOR, -EBADF, &caller, &ignored) == 0)
		(void)poll(&(struct pollfd){ .fd = caller, .events = POLLIN }, 1, TAKE_OVER_MS);
}
