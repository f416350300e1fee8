/*
 * channel_state.h - the inside of a channel, shared by channel.c (messages),
 * channel_connect.c and channel_tree.c (data)
 */
#pragma once

#include "migrate/channel.h"
#include "migrate/compression.h"
#include "proto/block.h"
#include "proto/checksum.h"
#include "proto/frame.h"
#include "proto/frame_reader.h"
#include "proto/sequence.h"

struct channel {
	int fd;
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
	uint64_t rate;			/* bytes a second, 0: any */
	uint64_t paid_until_us;		/* when what was sent has taken its time at that rate */
	uint8_t *raw;			/* WIRE_DATA_MAX_BYTES: collects a block */
	size_t raw_len;
	uint8_t *room;			/* WIRE_RAW_MAX_BYTES */
	struct channel_stats stats;
	void (*progress)(void *ctx, const struct channel_stats *s);
	void *progress_ctx;
	uint64_t progress_at_us;
	bool peer_aborted;
};

/* Around a connected socket, which it consumes. */
int channel_new(int fd_consumed, enum wire_side side, struct channel **ret, struct error *err);
enum wire_side channel_other_side(const struct channel *ch);

/* Sends two pieces of memory; len may be 0. */
int channel_send_all(struct channel *ch, const void *head, size_t head_len, const void *data,
		     size_t len, struct error *err);

/* Waits for one whole frame, which may come now; its payload is the reader's. */
int channel_read_frame(struct channel *ch, const struct frame **ret, struct error *err);

/* Decodes that frame. Returns 1, with nothing in ret, for PROGRESS. */
int channel_take_message(struct channel *ch, const struct frame *f, struct message *ret,
			 struct error *err);
