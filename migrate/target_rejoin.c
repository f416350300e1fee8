#include <poll.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/fault.h"
#include "engine/base/fd.h"
#include "migrate/channel/channel_state.h"
#include "migrate/incoming.h"
#include "migrate/serve/door.h"
#include "migrate/target_lanes.h"
#include "migrate/target_rejoin.h"
#include "migrate/token.h"

#define YIELD_DOOR "yield"		/* open while the source is gone */
#define WAIT_MAX_US (600ull * 1000000)
#define WAIT_LONGER_S 5			/* than the source tries */
#define COME_US 60000000u		/* for a further connection to be made */
#define LOOK_MS 200
#define TAKE_OVER_MS 10000

static void door_name(unsigned connection, char ret[16])
{
	(void)snprintf(ret, 16, "join-%u", connection);
}

static uint64_t wait_us(const struct target *t)
{
	uint64_t retry_us = t->offer.offer.retry_us;

	return (retry_us < WAIT_MAX_US ? retry_us : WAIT_MAX_US) +
	       fault_value("keep-longer-s", WAIT_LONGER_S) * 1000000;
}

/* The connection that was handed over: what has come here is said on it. -EAGAIN
 * when it is of no use. */
static int take_connection(const struct target_connection *c, uint64_t received, struct channel **ret,
			   struct error *err)
{
	const struct message joined = { .type = WIRE_JOINED, .joined.received = received };
	CLEANUP(channel_freep) struct channel *fresh = NULL;
	CLEANUP(fd_closep) int caller = -EBADF;
	int fd = -EBADF;

	if (door_answer(c->door, &caller, &fd, err) < 0 || fd < 0 ||
	    channel_accept_again(c->target->node, fd, c->target->peer.name, &fresh, err) < 0)
		return -EAGAIN;
	fresh->sequence.state = SEQUENCE_JOINING;
	if (channel_send(fresh, &joined, err) < 0)
		return -EAGAIN;
	channel_set_patience(fresh, CHANNEL_PATIENCE_US);
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

static int await(const struct target_connection *c, uint64_t end_us, int yield_door, uint64_t received,
		 struct channel **ret, struct error *err)
{
	struct pollfd p[] = { { .fd = c->door, .events = POLLIN }, { .fd = yield_door, .events = POLLIN } };

	while (clock_us() < end_us) {
		if (target_lanes_failed(c->target, err) < 0)
			return -err->code;
		if (poll(p, 2, LOOK_MS) < 0 && errno != EINTR)
			return error_set(err, errno, "poll: %s", strerror(errno));
		if (p[0].revents && take_connection(c, received, ret, err) == 0)
			return 0;
		if (p[1].revents && yield(c->target, yield_door, err) < 0)
			return -err->code;
	}
	return error_set(err, ETIMEDOUT, "the source has not come");
}

static int reconnect(void *ctx, uint64_t since_us, uint64_t received, struct channel **ret_fresh,
		     uint64_t *ret_received, struct error *err)
{
	const struct target_connection *c = ctx;
	struct target *t = c->target;
	const int dir = t->container->dir_fd;
	struct error ignored;
	int yield_door = -EBADF, r;

	target_say(t, "container '%s': connection %u to %s is lost; what has come is kept for %.3g s",
		   t->container->name, c->number + 1, t->peer.name, (double)wait_us(t) / 1e6);
	if (c->number == 0)
		(void)door_open(dir, YIELD_DOOR, &yield_door, &ignored);
	r = await(c, since_us + wait_us(t), yield_door, received, ret_fresh, err);
	door_close(dir, YIELD_DOOR, &yield_door);
	*ret_received = 0;		/* nothing is kept here */
	if (r == -ETIMEDOUT)
		return error_set(err, ETIMEDOUT, "the source has not come back for %.3g s", (double)wait_us(t) / 1e6);
	if (r == 0)
		target_say(t, "container '%s': %s is back, and goes on", t->container->name, t->peer.name);
	return r;
}

static int be_recoverable(struct target_connection *c, struct channel *ch, struct error *err)
{
	uint64_t retry_us = c->target->offer.offer.retry_us;
	const struct channel_recovery recovery = { .reconnect = reconnect, .ctx = c, .again_fd = c->door,
						   .dead_us = channel_dead_us(retry_us) };

	return retry_us ? channel_recoverable(ch, &recovery, 0, err) : 0;
}

int target_rejoin_open(struct target_connection *c, struct error *err)
{
	char name[16];

	door_name(c->number, name);
	return door_open(c->target->container->dir_fd, name, &c->door, err);
}

void target_rejoin_close(struct target_connection *c)
{
	char name[16];

	door_name(c->number, name);
	door_close(c->target->container->dir_fd, name, &c->door);
}

int target_rejoin_await(struct target_connection *c, struct channel **ret, struct error *err)
{
	if (await(c, clock_us() + COME_US, -EBADF, 0, ret, err) < 0)
		return error_wrap(err, "connection %u", c->number + 1);
	return be_recoverable(c, *ret, err);
}

int target_rejoin_begin(struct target *t, struct error *err)
{
	struct target_connection *first = &t->connections[0];

	if (!t->offer.offer.retry_us)
		return 0;
	*first = (struct target_connection){ t, 0, -EBADF };
	if (target_rejoin_open(first, err) < 0)
		return -err->code;
	return be_recoverable(first, t->channel, err);
}

void target_rejoin_end(struct target *t)
{
	channel_not_recoverable(t->channel);
	if (t->connections[0].target)
		target_rejoin_close(&t->connections[0]);
}

int target_rejoin_hand_over(const struct node *node, const struct message_join *join, struct channel *ch,
			    struct error *err)
{
	CLEANUP(container_freep) struct container *c = NULL;
	CLEANUP(freep) char *token = NULL;
	CLEANUP(fd_closep) int door = -EBADF;
	struct error why;
	char name[16];

	door_name(join->connection, name);
	if (container_open(node, join->name, &c, &why) < 0 ||
	    fd_read_file_at(c->dir_fd, CONTAINER_MARK, TOKEN_SIZE, &token, NULL, &why) < 0 ||
	    strcmp(token, join->token) != 0 || door_reach(c->dir_fd, name, &door, &why) < 0)
		return error_set(err, EPERM, "no such migration is under way here");
	return channel_end_session(ch, err) < 0 ? -err->code : door_pass(door, channel_fd(ch), err);
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
