/*
 * channel.h - one connection to a peer: messages, data, counters, patience
 *
 * Owns the socket, the frame reader and the sequence check, so that whoever
 * uses it can neither send nor receive what wire.h does not allow now. All
 * calls block. A peer whose machine or network is gone is noticed after
 * CHANNEL_DEAD_US (TCP keep-alive and user timeout), one that is there but
 * says nothing after CHANNEL_PATIENCE_US. A signal handler that sets
 * *cancelled ends the calls with -ECANCELED.
 *
 * ABORT from the peer is an error of every receiving call, with the peer's own
 * words.
 *
 * Between nodes all of it goes through TLS (migrate/tls), whose handshake is part of
 * connecting and accepting; but not when the node was told to do without (struct node,
 * insecure): it never falls back to that by itself. With TLS the name in the peer's HELLO
 * is the one of its certificate. After fork(2) only one process goes on with a channel.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"
#include "engine/node.h"
#include "proto/message.h"

#define CHANNEL_DEAD_US 30000000u
#define CHANNEL_PATIENCE_US 600000000u
#define CHANNEL_GREET_US 20000000u	/* until it has said HELLO */

struct channel;

struct channel_stats {
	uint64_t raw_bytes;		/* of trees, before compression */
	uint64_t wire_bytes;		/* everything sent and received */
	uint64_t compress_us, send_us;	/* where the time of sending went */
	uint64_t rate_us;		/* waited for the sake of channel_set_rate */
	uint64_t reconnects, resent_bytes;
};

/* "node-b", "10.0.0.2:4967", "[fe80::1]:4967"; default port of wire.h.
 * -EHOSTUNREACH, -ECONNREFUSED and the like name the host and the remedy; so do -EACCES,
 * -EKEYEXPIRED and -ENOKEY, when the node or the peer has no certificate that the other takes. */
int channel_connect(const struct node *node, const char *host, const volatile sig_atomic_t *cancelled,
		    struct channel **ret, struct error *err);

/* The source's end of a connection that is there already, e.g. of socketpair(2);
 * without TLS. Consumes the socket, which does not block. */
int channel_connected(int fd_consumed, const volatile sig_atomic_t *cancelled, struct channel **ret,
		      struct error *err);

/* The target's end of such a one. */
int channel_accepted(int fd_consumed, struct channel **ret, struct error *err);

/* As channel_connect, which waits 10 s for each of the host's addresses. */
int channel_connect_within(const struct node *node, const char *host, uint64_t timeout_us,
			   const volatile sig_atomic_t *cancelled, struct channel **ret, struct error *err);

/* Around an accepted socket, which it consumes. */
int channel_accept(const struct node *node, int fd_consumed, struct channel **ret, struct error *err);

/* A connection goes on in another process of the target's: a session of TLS can't be given away, the socket
 * can. So whoever has accepted it, and knows the peer, ends the session (channel_end_session) and gives the
 * socket to the other one, who begins another session, which must be with the same peer
 * (channel_accept_again); the source waits for that (channel_begin_again). Without TLS nothing happens. */
int channel_end_session(struct channel *ch, struct error *err);
int channel_accept_again(const struct node *node, int fd_consumed, const char *peer, struct channel **ret,
			 struct error *err);
int channel_begin_again(struct channel *ch, const struct node *node, const char *peer, struct error *err);
void channel_free(struct channel *ch);

/* Frees it without a word to the peer: another process that has it, by fork(2), goes on. */
void channel_forget(struct channel *ch);
DEFINE_CLEANUP(struct channel *, channel_free)

/* Who the other side says it is. */
struct channel_peer {
	char name[WIRE_NAME_MAX + 1];
	char id[WIRE_TOKEN_CHARS + 1];	/* node.h */
};

/* HELLO both ways; name and id are this node's. */
int channel_greet(struct channel *ch, const char *name, const char *id, struct channel_peer *ret,
		  struct error *err);

int channel_send(struct channel *ch, const struct message *m, struct error *err);

/* The next message that is not PROGRESS; it must be of this type (0: any).
 * The caller frees it with message_free. */
int channel_receive(struct channel *ch, enum wire_type type, struct message *ret,
		    struct error *err);

/* Inside a tree. Raw bytes are collected into blocks, compressed at a level
 * that follows the link, and counted; channel_send_data with len 0 sends what
 * is left. channel_receive_data returns the number of raw bytes at *ret_data,
 * valid until the next call, and 0 when TREE_END came, which is checked. */
int channel_tree_begin(struct channel *ch, enum message_tree_kind kind, const char *label,
		       struct error *err);
int channel_send_data(struct channel *ch, const void *data, size_t len, struct error *err);

/* For who puts data together in the present block itself: where it ends, what it
 * still takes, and that so many bytes behind its end are there now. */
void *channel_block(struct channel *ch);
size_t channel_room(const struct channel *ch);
void channel_block_filled(struct channel *ch, size_t len);
int channel_tree_end(struct channel *ch, uint64_t entries, struct error *err);
ssize_t channel_receive_data(struct channel *ch, const void **ret_data, struct error *err);

/* Fixes the level (compression.h), instead of following the link. */
void channel_set_level(struct channel *ch, int level);

/* While trees of memory go, a connection that is lost may be replaced by another
 * one, and nothing is lost with it: the source keeps what it sends until the target
 * has confirmed it (RECEIVED, now and then), and sends it again. To both sides it
 * is as if nothing had been, and the trees go on where they were.
 *
 * reconnect waits for the other connection: *ret_fresh, past JOINED, owned by the
 * caller. received is how many of the peer's frames have come here, *ret_received
 * how many of ours the peer has. since_us: when the connection was lost. When it
 * gives up, the connection's end is an error as usual. again_fd (-EBADF: none) is
 * readable when the peer has come on another connection, before we notice that the
 * old one is dead. A peer that is unresponsive for dead_us is taken as lost. */
struct channel_recovery {
	int (*reconnect)(void *ctx, uint64_t since_us, uint64_t received, struct channel **ret_fresh,
			 uint64_t *ret_received, struct error *err);
	void *ctx;
	int again_fd;
	uint64_t dead_us;
};

/* For who tries so long to come back. */
uint64_t channel_dead_us(uint64_t retry_us);

/* From here on, on both sides at the same point of the conversation. The source
 * keeps up to keep_bytes (0: the target's side). */
int channel_recoverable(struct channel *ch, const struct channel_recovery *recovery, size_t keep_bytes,
			struct error *err);
void channel_not_recoverable(struct channel *ch);

/* At most so many bytes of data a second on the wire from now on; 0: no limit. */
void channel_set_rate(struct channel *ch, uint64_t bytes_per_second);

/* All these bytes count for one rate, which is other's. It is used longer than ch. */
void channel_share_rate(struct channel *ch, struct channel *other);

/* Whatever another thread does with the channel ends soon with -ECANCELED, and so
 * does all that comes later, but for channel_abort. */
void channel_stop(struct channel *ch);
bool channel_is_stopped(const struct channel *ch);

/* Best effort: tells the peer why, before hanging up. */
void channel_abort(struct channel *ch, const struct error *why, const char *state);

/* Nothing more is said; waits until the peer has hung up, too, at most so long. */
void channel_await_end(struct channel *ch, uint64_t patience_us);

struct channel_stats channel_stats(const struct channel *ch);
void channel_stats_add(struct channel_stats *sum, struct channel_stats more);

/* Called now and then while data flows, with the stats so far. */
void channel_on_progress(struct channel *ch, void (*fn)(void *ctx, const struct channel_stats *s),
			 void *ctx);

/* Instead of CHANNEL_PATIENCE_US; counts from the greeting on. */
void channel_set_patience(struct channel *ch, uint64_t patience_us);

/* From now on signals don't end calls any more. */
void channel_not_cancellable(struct channel *ch);

/* True when the peer hung up or sent something; waits at most timeout_us. */
bool channel_wait_readable(struct channel *ch, uint64_t timeout_us);
int channel_fd(const struct channel *ch);
