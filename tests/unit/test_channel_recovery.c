/*
 * Two ends in two threads, and between them a relay that cuts each connection
 * after some bytes. What arrives must be what was sent, once and in order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "migrate/channel/channel_state.h"

#define TREES 5
#define TREE_BYTES (3u << 20)
#define KEEP_BYTES (2u << 20)
#define PATIENCE_US 5000000u

/* Between the ends. Under lock, but for what one thread alone uses. */
struct world {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct channel *waiting;	/* the target's end of a new connection */
	uint64_t received;		/* what the target has said on it */
	bool answered, gone;
	/* the source's alone: */
	uint64_t limit;			/* bytes that the next relay passes on, either way; 0: all */
	uint64_t step;			/* what limit becomes then; 0: all */
	pthread_t relays[256];
	size_t n_relays;
};

struct relay {
	int fd[2];
	uint64_t limit;
};

static void *run_relay(void *ctx)
{
	struct relay *r = ctx;
	struct pollfd p[2] = { { .fd = r->fd[0], .events = POLLIN }, { .fd = r->fd[1], .events = POLLIN } };
	uint64_t passed = 0;
	char bytes[4000];
	ssize_t n = 1;

	while (n > 0 && poll(p, 2, -1) > 0)
		for (int i = 0; i < 2 && n > 0; i++) {
			size_t most = r->limit && r->limit - passed < sizeof(bytes) ? r->limit - passed : sizeof(bytes);

			if (!p[i].revents)
				continue;
			n = most ? read(r->fd[i], bytes, most) : 0;
			if (n > 0 && send(r->fd[!i], bytes, (size_t)n, MSG_NOSIGNAL) != n)
				n = 0;
			passed += n > 0 ? (uint64_t)n : 0;
		}
	fd_close(&r->fd[0]);
	fd_close(&r->fd[1]);
	free(r);
	return NULL;
}

/* A connection through a relay: two ends. */
static void connect_through(struct world *w, struct channel **ret_source, struct channel **ret_target)
{
	struct relay *r = calloc(1, sizeof(*r));
	int near[2], far[2];
	struct error err;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, near), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, far), 0);
	*r = (struct relay){ { near[1], far[0] }, w->limit };
	w->limit = w->step;
	assert_true(w->n_relays < sizeof(w->relays) / sizeof(*w->relays));
	assert_int_equal(pthread_create(&w->relays[w->n_relays++], NULL, run_relay, r), 0);
	assert_int_equal(channel_new(near[0], WIRE_SOURCE, ret_source, &err), 0);
	assert_int_equal(channel_new(far[1], WIRE_TARGET, ret_target, &err), 0);
}

static int reconnect_source(void *ctx, uint64_t since_us, uint64_t received, struct channel **ret,
			    uint64_t *ret_received, struct error *err)
{
	struct channel *target;
	struct world *w = ctx;
	bool gone;

	(void)since_us, (void)received;
	if (w->n_relays == 200)
		return error_set(err, ENETDOWN, "enough");
	connect_through(w, ret, &target);
	(void)pthread_mutex_lock(&w->lock);
	w->answered = false;
	channel_free(w->waiting);	/* nobody came for it */
	w->waiting = target;
	(void)pthread_cond_broadcast(&w->changed);
	while (!w->answered && !w->gone)
		(void)pthread_cond_wait(&w->changed, &w->lock);
	*ret_received = w->received;
	gone = w->gone;
	(void)pthread_mutex_unlock(&w->lock);
	if (!gone)
		return 0;
	channel_free(*ret);
	return error_set(err, ENETDOWN, "nobody is there");
}

static int reconnect_target(void *ctx, uint64_t since_us, uint64_t received, struct channel **ret,
			    uint64_t *ret_received, struct error *err)
{
	struct world *w = ctx;

	(void)since_us;
	(void)pthread_mutex_lock(&w->lock);
	while (!w->waiting && !w->gone)
		(void)pthread_cond_wait(&w->changed, &w->lock);
	*ret = w->waiting;
	w->waiting = NULL;
	w->received = received;
	w->answered = *ret != NULL;
	(void)pthread_cond_broadcast(&w->changed);
	(void)pthread_mutex_unlock(&w->lock);
	*ret_received = 0;
	return *ret ? 0 : error_set(err, ECONNRESET, "nobody comes");
}

static void leave(struct world *w)
{
	(void)pthread_mutex_lock(&w->lock);
	w->gone = true;
	(void)pthread_cond_broadcast(&w->changed);
	(void)pthread_mutex_unlock(&w->lock);
}

/* Some of it shrinks, some does not. */
static uint8_t byte_at(size_t tree, size_t i)
{
	return (i >> 18) % 2 ? (uint8_t)(i >> 12) : (uint8_t)((i * 2654435761u + tree * 40503u) >> 13);
}

struct receiver {
	struct world *world;
	struct channel *channel;
	size_t trees;
	int result;
	struct error err;
};

static int receive_tree(struct channel *ch, size_t tree, struct error *err)
{
	const void *data;
	size_t at = 0;
	ssize_t n;

	while ((n = channel_receive_data(ch, &data, err)) > 0)
		for (const uint8_t *p = data; n; n--, p++, at++)
			if (*p != byte_at(tree, at))
				return error_set(err, EILSEQ, "tree %zu: byte %zu differs", tree, at);
	if (n == 0 && at != TREE_BYTES)
		return error_set(err, EILSEQ, "tree %zu has %zu bytes", tree, at);
	return (int)n;
}

static void *run_receiver(void *ctx)
{
	struct receiver *r = ctx;
	struct message m = { 0 };

	while (r->result == 0) {
		r->result = channel_receive(r->channel, 0, &m, &r->err);
		if (r->result == 0 && m.type == WIRE_FROZEN)
			break;
		message_free(&m);
		if (r->result == 0)
			r->result = receive_tree(r->channel, r->trees, &r->err);
		if (r->result == 0)
			r->trees++;
	}
	if (r->result < 0) {		/* it hangs up, as a process that ends does */
		(void)shutdown(r->channel->fd, SHUT_RDWR);
		leave(r->world);
	}
	return NULL;
}

static int send_tree(struct channel *ch, size_t tree, struct error *err)
{
	static uint8_t piece[50021];

	if (channel_tree_begin(ch, MESSAGE_TREE_MEMORY, "", err) < 0)
		return -err->code;
	for (size_t at = 0; at < TREE_BYTES; at += sizeof(piece)) {
		size_t n = TREE_BYTES - at < sizeof(piece) ? TREE_BYTES - at : sizeof(piece);

		for (size_t i = 0; i < n; i++)
			piece[i] = byte_at(tree, at + i);
		if (channel_send_data(ch, piece, n, err) < 0)
			return -err->code;
	}
	return channel_tree_end(ch, 0, err);
}

static int send_everything(struct channel *ch, struct error *err)
{
	const struct message frozen = { .type = WIRE_FROZEN };
	int r = 0;

	for (size_t tree = 0; tree < TREES && r == 0; tree++)
		r = send_tree(ch, tree, err);
	return r < 0 ? r : channel_send(ch, &frozen, err);
}

struct outcome {
	int sent, received;
	size_t trees;
	struct channel_stats stats;
	struct error err, receiver_err;
};

static void close_world(struct world *w)
{
	channel_free(w->waiting);
	for (size_t i = 0; i < w->n_relays; i++)
		assert_int_equal(pthread_join(w->relays[i], NULL), 0);
	(void)pthread_mutex_destroy(&w->lock);
	(void)pthread_cond_destroy(&w->changed);
}

/* The first connection passes `first` bytes, each further one `step`. */
static struct outcome run(uint64_t first, uint64_t step)
{
	struct world w = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER,
			   .limit = first, .step = step };
	const struct channel_recovery at_source = { reconnect_source, &w, -EBADF, PATIENCE_US };
	const struct channel_recovery at_target = { reconnect_target, &w, -EBADF, PATIENCE_US };
	struct receiver receiver = { .world = &w };
	struct channel *source;
	struct outcome o = { 0 };
	pthread_t thread;

	connect_through(&w, &source, &receiver.channel);
	source->sequence.state = receiver.channel->sequence.state = SEQUENCE_PREPARED;
	assert_int_equal(channel_recoverable(source, &at_source, KEEP_BYTES, &o.err), 0);
	assert_int_equal(channel_recoverable(receiver.channel, &at_target, 0, &o.err), 0);
	assert_int_equal(pthread_create(&thread, NULL, run_receiver, &receiver), 0);
	o.sent = send_everything(source, &o.err);
	o.stats = channel_stats(source);
	if (o.sent < 0) {
		leave(&w);
		channel_free(source);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	if (o.sent == 0)
		channel_free(source);
	o.received = receiver.result;
	o.trees = receiver.trees;
	o.receiver_err = receiver.err;
	channel_free(receiver.channel);
	close_world(&w);
	return o;
}

static void all_must_be_there(const struct outcome *o, uint64_t at)
{
	if (o->sent < 0 || o->received < 0)
		fail_msg("cut at %llu: sent %d (%s), received %d (%s)", (unsigned long long)at, o->sent, o->err.msg,
			 o->received, o->receiver_err.msg);
	assert_int_equal(o->trees, TREES);
}

static void without_a_cut_nothing_is_sent_twice(void **state)
{
	struct outcome o = run(0, 0);

	(void)state;
	all_must_be_there(&o, 0);
	assert_int_equal(o.stats.reconnects, 0);
	assert_int_equal(o.stats.resent_bytes, 0);
}

static void one_cut_anywhere(void **state)
{
	(void)state;
	for (uint64_t at = 1; at < 6u << 20; at = at * 3 + 1) {
		struct outcome o = run(at, 0);

		all_must_be_there(&o, at);
		assert_int_equal(o.stats.reconnects, 1);
		assert_true(o.stats.resent_bytes <= KEEP_BYTES);
	}
}

static void many_cuts(void **state)
{
	struct outcome o = run(700001, 911111);

	(void)state;
	all_must_be_there(&o, 911111);
	assert_in_range(o.stats.reconnects, 3, 100);
}

/* Each connection breaks before all that was unconfirmed has gone. */
static void no_way_through(void **state)
{
	struct outcome o = run(3u << 20, 10000);

	(void)state;
	assert_int_equal(o.sent, -ENETDOWN);
	assert_non_null(strstr(o.err.msg, "the connection was lost"));
	assert_true(o.received < 0);
	assert_true(o.trees < TREES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_cut_nothing_is_sent_twice),
		cmocka_unit_test(one_cut_anywhere),
		cmocka_unit_test(many_cuts),
		cmocka_unit_test(no_way_through),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
