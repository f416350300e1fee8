#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

#include "migrate/memory/memory_receive.h"
#include "migrate/target_lanes.h"
#include "migrate/target_rejoin.h"

struct lane {
	/* set once */
	struct target_lanes *lanes;
	struct target_connection *connection;
	pthread_t thread;
	bool has_thread;
	/* under lock */
	struct channel *channel;	/* the thread's own; the others may stop it */
	uint64_t trees;
	struct error error;		/* why the thread has ended; code 0: it has not */
};

struct target_lanes {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned n;
	struct lane lane[WIRE_CONNECTIONS_MAX - 1];
	/* under lock */
	bool frozen, ending;
};

static int receive_trees(struct lane *lane, struct channel *ch, struct error *err)
{
	const struct target *t = lane->connection->target;
	const struct memory_receiver receiver = { .store = t->store, .connection = lane->connection->number,
						  .connections = t->offer.offer.connections };

	for (;;) {
		struct message m = { 0 };

		if (channel_receive(ch, WIRE_TREE_BEGIN, &m, err) < 0)
			return -err->code;
		message_free(&m);
		if (memory_receive(ch, &receiver, err) < 0)
			return -err->code;
		(void)pthread_mutex_lock(&lane->lanes->lock);
		lane->trees++;
		(void)pthread_cond_broadcast(&lane->lanes->changed);
		(void)pthread_mutex_unlock(&lane->lanes->lock);
	}
}

/* The first connection's thread is woken to hear of it, unless all has come. */
static void *lane_main(void *ctx)
{
	struct lane *lane = ctx;
	struct target_lanes *l = lane->lanes;
	struct channel *ch = NULL;
	struct error err;

	if (target_rejoin_await(lane->connection, &ch, &err) == 0) {
		(void)pthread_mutex_lock(&l->lock);
		lane->channel = ch;
		(void)pthread_mutex_unlock(&l->lock);
		(void)receive_trees(lane, ch, &err);
	}
	(void)pthread_mutex_lock(&l->lock);
	lane->channel = ch;
	lane->error = err;
	(void)error_wrap(&lane->error, "connection %u", lane->connection->number + 1);
	if (!l->frozen && !l->ending)
		(void)shutdown(channel_fd(lane->connection->target->channel), SHUT_RD);
	(void)pthread_cond_broadcast(&l->changed);
	(void)pthread_mutex_unlock(&l->lock);
	return NULL;
}

static int start(struct target *t, struct target_lanes *l, unsigned number, struct error *err)
{
	struct lane *lane = &l->lane[l->n];
	struct target_connection *c = &t->connections[number];

	*c = (struct target_connection){ t, number, -EBADF };
	if (target_rejoin_open(c, err) < 0)
		return -err->code;
	lane->lanes = l;
	lane->connection = c;
	l->n++;
	if (pthread_create(&lane->thread, NULL, lane_main, lane) != 0)
		return error_set(err, EAGAIN, "no thread for a connection");
	lane->has_thread = true;
	return 0;
}

int target_lanes_begin(struct target *t, struct error *err)
{
	if (t->offer.offer.connections <= 1)
		return 0;
	t->lanes = calloc(1, sizeof(*t->lanes));
	if (!t->lanes)
		return error_set(err, ENOMEM, "out of memory");
	(void)pthread_mutex_init(&t->lanes->lock, NULL);
	(void)pthread_cond_init(&t->lanes->changed, NULL);
	for (unsigned i = 1; i < t->offer.offer.connections; i++)
		if (start(t, t->lanes, i, err) < 0)
			return -err->code;
	return 0;
}

int target_lanes_failed(const struct target *t, struct error *err)
{
	struct target_lanes *l = t->lanes;
	int r = 0;

	if (!l)
		return 0;
	(void)pthread_mutex_lock(&l->lock);
	for (unsigned i = 0; i < l->n && r == 0; i++)
		if (l->lane[i].error.code) {
			*err = l->lane[i].error;
			r = -err->code;
		}
	if (r == 0 && (l->frozen || l->ending))
		r = error_set(err, ECANCELED, "it is too late to connect");
	(void)pthread_mutex_unlock(&l->lock);
	return r;
}

void target_lanes_freeze(struct target *t)
{
	if (!t->lanes)
		return;
	(void)pthread_mutex_lock(&t->lanes->lock);
	t->lanes->frozen = true;
	(void)pthread_mutex_unlock(&t->lanes->lock);
}

/* 1: it has them. 0: they may come. */
static int has_trees(const struct lane *lane, uint64_t wanted, struct error *err)
{
	if (lane->trees >= wanted)
		return 1;
	if (lane->error.code)
		*err = lane->error;
	return lane->error.code ? -lane->error.code : 0;
}

int target_lanes_settle(struct target *t, struct error *err)
{
	struct target_lanes *l = t->lanes;
	int r = 1;

	if (!l)
		return 0;
	(void)pthread_mutex_lock(&l->lock);
	for (unsigned i = 0; i < l->n && r > 0; i++)
		while ((r = has_trees(&l->lane[i], t->rounds + 1, err)) == 0)
			(void)pthread_cond_wait(&l->changed, &l->lock);
	(void)pthread_mutex_unlock(&l->lock);
	return r < 0 ? r : 0;
}

/* One that has all its trees waits for more that will not come; it is not lost any
 * more, so the socket stays the same. Others see soon that they are to stop. */
static void stop(const struct target *t, struct lane *lane)
{
	if (!lane->channel)
		return;
	channel_stop(lane->channel);
	if (lane->lanes->frozen && lane->trees > t->rounds)
		(void)shutdown(channel_fd(lane->channel), SHUT_RDWR);
}

void target_lanes_end(struct target *t)
{
	struct target_lanes *l = t->lanes;

	if (!l)
		return;
	(void)pthread_mutex_lock(&l->lock);
	l->ending = true;
	for (unsigned i = 0; i < l->n; i++)
		stop(t, &l->lane[i]);
	(void)pthread_mutex_unlock(&l->lock);
	for (unsigned i = 0; i < l->n; i++) {
		if (l->lane[i].has_thread)
			(void)pthread_join(l->lane[i].thread, NULL);
		target_rejoin_close(l->lane[i].connection);
		channel_free(l->lane[i].channel);
	}
	(void)pthread_mutex_destroy(&l->lock);
	(void)pthread_cond_destroy(&l->changed);
	free(l);
	t->lanes = NULL;
}
