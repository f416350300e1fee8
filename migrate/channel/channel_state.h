/*
 * channel_state.h - the inside of a channel, shared by channel.c (messages),
 * channel_connect.c, channel_secure.c (TLS), channel_socket.c (bytes), channel_tree.c
 * (data) and channel_recovery.c (connections that are lost)
 */
#pragma once

#include <pthread.h>

#include "migrate/channel/channel.h"
#include "migrate/channel/compression.h"
#include "migrate/channel/kept_frames.h"
#include "migrate/tls/session.h"
#include "proto/block.h"
#include "proto/checksum.h"
#include "proto/frame.h"
#include "proto/frame_reader.h"
#include "proto/sequence.h"

/* What several channels may share. Under lock, but for the lock. */
struct channel_rate {
	pthread_mutex_t lock;
	uint64_t bytes_per_second;	/* 0: any */
	uint64_t paid_until_us;		/* when what was sent has taken its time at that rate */
};

struct channel {
	int fd;
	struct session *session;	/* NULL: without TLS */
	enum wire_side side;
	const volatile sig_atomic_t *cancelled;
	uint64_t patience_us;
	struct sequence sequence;
	struct frame_reader *reader;
	struct buffer out;
	struct block_encoder *encoder;
	struct block_decoder *decoder;
	struct checksum *sum;
	bool compressed;		/* the tree being received was announced so */
	struct compression compression;
	struct channel_rate own_rate, *rate;	/* rate: ours, or another channel's */
	_Atomic bool stopped;
	/* A block is collected in raw, WIRE_DATA_MAX_BYTES long, with room for a
	 * frame's header before it: in own_block, or where it is kept. */
	uint8_t *own_block, *raw;
	size_t raw_len;
	uint8_t *room;			/* WIRE_RAW_MAX_BYTES */
	struct channel_stats stats;
	void (*progress)(void *ctx, const struct channel_stats *s);
	void *progress_ctx;
	uint64_t progress_at_us;
	bool peer_aborted;
	/* while a lost connection may be replaced: reconnect is set */
	struct channel_recovery recovery;
	struct kept_frames *kept;	/* the source's, or NULL */
	uint64_t frames_in;		/* the source's, that have come here */
	uint64_t confirmed_in, unconfirmed_bytes;
	bool torn;			/* a frame was sent in part: nothing can follow it */
};

#define CHANNEL_ABORT_US 2000000	/* for the last that is said, after a cancel */

/* When somebody has said so: -ECANCELED. */
static inline int channel_check_cancelled(const struct channel *ch, struct error *err)
{
	bool over = ch->stopped || (ch->cancelled && *ch->cancelled);

	return over ? error_set(err, ECANCELED, "cancelled") : 0;
}

/* Around a connected socket, which it consumes. */
int channel_new(int fd_consumed, enum wire_side side, struct channel **ret, struct error *err);
enum wire_side channel_other_side(const struct channel *ch);

/* An unresponsive peer is taken as gone after so long. */
void channel_tune(int fd, uint64_t dead_us);

/* Sends two pieces of memory on the connection that there is; len may be 0. */
int channel_write(struct channel *ch, const void *head, size_t head_len, const void *data, size_t len,
		  struct error *err);

/* Sends what the session has sealed, if there is one. */
int channel_flush(struct channel *ch, struct error *err);

/* Waits for events of the socket, as long as the peer may be silent. */
int channel_wait(struct channel *ch, short events, struct error *err);

/* TLS from here on, unless the node does without: the handshake, which may take so long in all. */
int channel_secure(struct channel *ch, const struct node *node, uint64_t within_us, struct error *err);

/* One whole frame into the reader, whose payload it is. Returns 1 when it would
 * have to wait and is not to. */
int channel_read(struct channel *ch, bool wait, const struct frame **ret, struct error *err);

/* As channel_write and channel_read, over one connection after the other; the
 * frame read may come now. */
int channel_send_frame(struct channel *ch, const void *head, size_t head_len, const void *data, size_t len,
		       struct error *err);
int channel_read_frame(struct channel *ch, const struct frame **ret, struct error *err);

/* Waits as long as len bytes take at the rate; a cancel ends it. */
int channel_keep_to_rate(struct channel *ch, size_t len, struct error *err);

static inline bool channel_keeps(const struct channel *ch)
{
	return ch->recovery.reconnect && ch->kept;
}

/* Before a frame is sent, if frames are kept now: keeps a copy; or, of one that was
 * made in place (raw), notes that it is len bytes long with its header. After it
 * was sent channel_next_block finds a place for the next one; it may wait for the
 * peer. */
int channel_keep(struct channel *ch, const void *frame, size_t len, struct error *err);
void channel_keep_block(struct channel *ch, size_t len);
int channel_next_block(struct channel *ch, struct error *err);

/* What the peer says that it has received. */
int channel_confirmed(struct channel *ch, uint64_t frames, struct error *err);

/* Decodes that frame. Returns 1, with nothing in ret, for PROGRESS and RECEIVED. */
int channel_take_message(struct channel *ch, const struct frame *f, struct message *ret,
			 struct error *err);
