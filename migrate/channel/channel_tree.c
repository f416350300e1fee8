#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/fault.h"
#include "migrate/channel/channel_state.h"

#define PROGRESS_US 100000
#define RATE_NAP_US 50000

void channel_set_level(struct channel *ch, int level)
{
	compression_init(&ch->compression, level);
}

static void report_progress(struct channel *ch)
{
	uint64_t now;

	if (!ch->progress)
		return;
	now = clock_us();
	if (now - ch->progress_at_us < PROGRESS_US)
		return;
	ch->progress_at_us = now;
	ch->progress(ch->progress_ctx, &ch->stats);
}

void channel_set_rate(struct channel *ch, uint64_t bytes_per_second)
{
	(void)pthread_mutex_lock(&ch->rate->lock);
	ch->rate->bytes_per_second = bytes_per_second;
	ch->rate->paid_until_us = 0;
	(void)pthread_mutex_unlock(&ch->rate->lock);
}

void channel_share_rate(struct channel *ch, struct channel *other)
{
	ch->rate = other->rate;
}

/* When len more bytes will have taken their time; 0: now. */
static uint64_t pay(struct channel_rate *rate, size_t len, uint64_t now)
{
	uint64_t until = 0;

	(void)pthread_mutex_lock(&rate->lock);
	if (rate->bytes_per_second) {
		if (rate->paid_until_us < now)
			rate->paid_until_us = now;
		rate->paid_until_us += (uint64_t)((double)len * 1e6 / (double)rate->bytes_per_second);
		until = rate->paid_until_us;
	}
	(void)pthread_mutex_unlock(&rate->lock);
	return until;
}

int channel_keep_to_rate(struct channel *ch, size_t len, struct error *err)
{
	uint64_t began = clock_us(), now = began, until = pay(ch->rate, len, began);

	for (; now < until; now = clock_us()) {
		if (channel_check_cancelled(ch, err) < 0)
			return -err->code;
		(void)usleep((useconds_t)(until - now < RATE_NAP_US ? until - now : RATE_NAP_US));
	}
	ch->stats.rate_us += now - began;
	return 0;
}

/* The frame of a block whose header is before raw, or, of one that is not kept,
 * in two pieces. */
static int send_data_frame(struct channel *ch, const struct block *b, struct error *err)
{
	uint8_t *head = ch->raw - WIRE_HEADER_BYTES;

	fault_pass_of("send", "DATA");
	if (frame_encode(WIRE_DATA, b->flags, b->data, b->len, head, err) < 0 ||
	    sequence_step(&ch->sequence, ch->side, WIRE_DATA, NULL, err) < 0)
		return -err->code;
	if (channel_keeps(ch) && b->data != ch->raw)
		memcpy(ch->raw, b->data, b->len);
	channel_keep_block(ch, WIRE_HEADER_BYTES + b->len);
	return channel_send_frame(ch, head, WIRE_HEADER_BYTES, channel_keeps(ch) ? ch->raw : b->data, b->len, err);
}

static int send_block(struct channel *ch, struct error *err)
{
	uint64_t t0, t1, t2;
	struct block b;

	if (channel_check_cancelled(ch, err) < 0)
		return -err->code;
	checksum_update(ch->sum, ch->raw, ch->raw_len);
	t0 = clock_us();
	if (block_encode(ch->encoder, compression_level(&ch->compression), ch->raw, ch->raw_len, ch->room,
			 WIRE_RAW_MAX_BYTES, &b, err) < 0)
		return -err->code;
	t1 = clock_us();
	if (send_data_frame(ch, &b, err) < 0 || channel_keep_to_rate(ch, WIRE_HEADER_BYTES + b.len, err) < 0 ||
	    channel_next_block(ch, err) < 0)
		return -err->code;
	t2 = clock_us();
	ch->stats.compress_us += t1 - t0;
	ch->stats.send_us += t2 - t1;
	compression_note(&ch->compression, ch->raw_len, b.len, t1 - t0, t2 - t1);
	ch->stats.raw_bytes += ch->raw_len;
	ch->raw_len = 0;
	report_progress(ch);
	return 0;
}

int channel_tree_begin(struct channel *ch, enum message_tree_kind kind, const char *label,
		       struct error *err)
{
	const struct message m = { .type = WIRE_TREE_BEGIN, .tree_begin = {
		.kind = kind, .label = label, .compressed = true } };

	checksum_reset(ch->sum);
	ch->raw_len = 0;
	return channel_send(ch, &m, err);
}

int channel_send_data(struct channel *ch, const void *data, size_t len, struct error *err)
{
	if (len == 0)
		return ch->raw_len ? send_block(ch, err) : 0;
	while (len) {
		size_t n = WIRE_DATA_MAX_BYTES - ch->raw_len;

		if (n > len)
			n = len;
		memcpy(ch->raw + ch->raw_len, data, n);
		ch->raw_len += n;
		data = (const char *)data + n;
		len -= n;
		if (ch->raw_len == WIRE_DATA_MAX_BYTES && send_block(ch, err) < 0)
			return -err->code;
	}
	return 0;
}

void *channel_block(struct channel *ch)
{
	return ch->raw + ch->raw_len;
}

void channel_block_filled(struct channel *ch, size_t len)
{
	ch->raw_len += len;
}

size_t channel_room(const struct channel *ch)
{
	return WIRE_DATA_MAX_BYTES - ch->raw_len;
}

int channel_tree_end(struct channel *ch, uint64_t entries, struct error *err)
{
	struct message m = { .type = WIRE_TREE_END };

	if (channel_send_data(ch, NULL, 0, err) < 0)
		return -err->code;
	m.tree_end = (struct message_tree_end){ .raw_bytes = checksum_bytes(ch->sum), .entries = entries,
						.checksum = checksum_value(ch->sum) };
	return channel_send(ch, &m, err);
}

static ssize_t check_end(struct channel *ch, const struct frame *f, struct error *err)
{
	struct message m = { 0 };
	int r = channel_take_message(ch, f, &m, err);

	if (r < 0)
		return r;
	if (m.tree_end.raw_bytes != checksum_bytes(ch->sum) ||
	    m.tree_end.checksum != checksum_value(ch->sum))
		r = error_set(err, EPROTO, "a tree arrived damaged: its checksum differs");
	message_free(&m);
	checksum_reset(ch->sum);
	return r;
}

ssize_t channel_receive_data(struct channel *ch, const void **ret_data, struct error *err)
{
	const struct frame *f;
	struct message m = { 0 };
	struct block b;

	for (;;) {
		if (channel_read_frame(ch, &f, err) < 0)
			return -err->code;
		if (f->type == WIRE_DATA)
			break;
		if (f->type == WIRE_TREE_END)
			return check_end(ch, f, err);
		if (channel_take_message(ch, f, &m, err) < 0)
			return -err->code;
	}
	if ((f->flags & WIRE_FLAG_ZSTD) && !ch->compressed)
		return error_set(err, EPROTO, "a compressed block in a tree that was announced as not compressed");
	if (sequence_step(&ch->sequence, channel_other_side(ch), WIRE_DATA, NULL, err) < 0 ||
	    block_decode(ch->decoder, f->flags, frame_reader_payload(ch->reader), f->length, ch->room,
			 WIRE_RAW_MAX_BYTES, &b, err) < 0)
		return -err->code;
	checksum_update(ch->sum, b.data, b.len);
	ch->stats.raw_bytes += b.len;
	*ret_data = b.data;
	return (ssize_t)b.len;
}
