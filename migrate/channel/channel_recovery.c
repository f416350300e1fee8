/* Connections that are lost while memory goes, and what goes on over another one. */
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/fault.h"
#include "engine/base/fd.h"
#include "migrate/channel/channel_state.h"

#define CONFIRM_BYTES (1u << 20)	/* at most so many go unconfirmed while more come */
#define DEAD_MIN_US 2000000u

uint64_t channel_dead_us(uint64_t retry_us)
{
	return retry_us < DEAD_MIN_US ? DEAD_MIN_US : retry_us < CHANNEL_DEAD_US ? retry_us : CHANNEL_DEAD_US;
}

int channel_recoverable(struct channel *ch, const struct channel_recovery *recovery, size_t keep_bytes,
			struct error *err)
{
	if (keep_bytes && kept_frames_new(keep_bytes, &ch->kept, err) < 0)
		return -err->code;
	ch->recovery = *recovery;
	ch->frames_in = ch->confirmed_in = ch->unconfirmed_bytes = 0;
	channel_tune(ch->fd, recovery->dead_us);
	return channel_next_block(ch, err);
}

/* Frames that are kept are not freed now: time is short at a freeze. */
void channel_not_recoverable(struct channel *ch)
{
	ch->recovery.reconnect = NULL;
	ch->raw = ch->own_block + WIRE_HEADER_BYTES;
	ch->raw_len = 0;
	channel_tune(ch->fd, CHANNEL_DEAD_US);
}

static bool is_lost(const struct channel *ch, const struct error *err)
{
	static const int codes[] = { ECONNRESET, EPIPE, ETIMEDOUT, EHOSTUNREACH, EHOSTDOWN, ENETUNREACH,
				     ENETDOWN, ECONNREFUSED };

	for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++)
		if (err->code == codes[i])
			return ch->recovery.reconnect && !ch->peer_aborted;
	return false;
}

static int send_again(struct channel *ch, struct error *err)
{
	const uint8_t *frame;
	size_t len;

	if (!channel_keeps(ch))
		return 0;
	for (uint64_t n = kept_frames_first(ch->kept); kept_frames_get(ch->kept, n, &frame, &len); n++) {
		if (channel_write(ch, frame, len, NULL, 0, err) < 0 || channel_keep_to_rate(ch, len, err) < 0)
			return -err->code;
		ch->stats.resent_bytes += len;
	}
	return 0;
}

/* The fresh one's connection is ours from now on. What had come of a frame is void. */
static int adopt(struct channel *ch, struct channel *fresh, uint64_t received, struct error *err)
{
	struct frame_reader *reader = ch->reader;

	fd_close(&ch->fd);
	ch->fd = TAKE_FD(fresh->fd);
	session_free(ch->session);
	ch->session = TAKE_PTR(fresh->session);
	ch->reader = fresh->reader;
	fresh->reader = reader;
	ch->stats.wire_bytes += fresh->stats.wire_bytes;
	ch->stats.reconnects++;
	channel_free(fresh);
	channel_tune(ch->fd, ch->recovery.dead_us);
	fault_connection(ch->fd);
	if (channel_keeps(ch) && kept_frames_confirm(ch->kept, received, err) < 0)
		return -err->code;
	return send_again(ch, err);
}

/* err says what happened to the connection. 0: another one is in its place. */
static int recover(struct channel *ch, struct error *err)
{
	const uint64_t since = clock_us();
	struct error why = *err;

	while (is_lost(ch, err)) {
		struct channel *fresh = NULL;
		uint64_t received = 0;

		if (ch->recovery.reconnect(ch->recovery.ctx, since, ch->frames_in, &fresh, &received, err) < 0)
			return error_wrap(err, "the connection was lost (%s)", why.msg);
		if (adopt(ch, fresh, received, err) == 0)
			return 0;
	}
	return -err->code;
}

/* A peer that gives up says why before it hangs up; sending may fail before we
 * have heard that. */
static void hear_last_words(struct channel *ch, struct error *err)
{
	struct error why;
	const struct frame *f;
	struct message m = { 0 };
	int r = 1;

	while (r == 1) {
		r = channel_read(ch, true, &f, &why);
		if (r == 0)
			r = channel_take_message(ch, f, &m, &why);
	}
	if (r == 0)
		message_free(&m);
	if (ch->peer_aborted)
		*err = why;
}

int channel_send_frame(struct channel *ch, const void *head, size_t head_len, const void *data, size_t len,
		       struct error *err)
{
	if (channel_write(ch, head, head_len, data, len, err) == 0)
		return 0;
	if (err->code == EPIPE || err->code == ECONNRESET)
		hear_last_words(ch, err);
	/* What is kept has been sent again; the rest can do without. */
	return recover(ch, err);
}

/* Tells the source what has come, when there is nothing to be read or much has.
 * Should that fail, there may be frames still to be read. */
static void confirm(struct channel *ch)
{
	struct message m = { .type = WIRE_RECEIVED, .received.frames = ch->frames_in };
	struct error ignored;

	if (ch->side != WIRE_TARGET || ch->confirmed_in == ch->frames_in ||
	    (ch->unconfirmed_bytes < CONFIRM_BYTES && channel_wait_readable(ch, 0)))
		return;
	fault_pass_of("send", wire_type_name(m.type));
	ch->confirmed_in = ch->frames_in;
	ch->unconfirmed_bytes = 0;
	ch->out.len = 0;
	if (sequence_step(&ch->sequence, ch->side, m.type, &m, &ignored) == 0 &&
	    message_encode_frame(&m, &ch->out, &ignored) == 0)
		(void)channel_write(ch, ch->out.data, ch->out.len, NULL, 0, &ignored);
	fault_pass_of("sent", wire_type_name(m.type));
}

int channel_read_frame(struct channel *ch, const struct frame **ret, struct error *err)
{
	if (ch->recovery.reconnect)
		confirm(ch);
	while (channel_read(ch, true, ret, err) < 0)
		if (recover(ch, err) < 0)
			return -err->code;
	if (ch->recovery.reconnect) {
		ch->frames_in++;
		ch->unconfirmed_bytes += (*ret)->length;
	}
	return sequence_check(&ch->sequence, channel_other_side(ch), (*ret)->type, err);
}

/* Nothing but confirmations can come while the source has the word. */
static int take_confirmation(struct channel *ch, const struct frame *f, struct error *err)
{
	struct message m = { 0 };
	int r = sequence_check(&ch->sequence, channel_other_side(ch), f->type, err);

	if (r == 0)
		r = channel_take_message(ch, f, &m, err);
	if (r == 0) {
		message_free(&m);
		return error_set(err, EPROTO, "%s out of order", wire_type_name(f->type));
	}
	return r < 0 ? r : 0;
}

/* Those that are there already. */
static int take_confirmations(struct channel *ch, struct error *err)
{
	const struct frame *f;
	int r;

	while ((r = channel_read(ch, false, &f, err)) == 0)
		if (take_confirmation(ch, f, err) < 0)
			return -err->code;
	return r < 0 ? recover(ch, err) : 0;
}

int channel_next_block(struct channel *ch, struct error *err)
{
	const struct frame *f;
	uint8_t *place;

	if (!channel_keeps(ch))
		return 0;
	if (take_confirmations(ch, err) < 0)
		return -err->code;
	while (!(place = kept_frames_room(ch->kept)))
		if (channel_read_frame(ch, &f, err) < 0 || take_confirmation(ch, f, err) < 0)
			return -err->code;
	ch->raw = place + WIRE_HEADER_BYTES;
	return 0;
}

void channel_keep_block(struct channel *ch, size_t len)
{
	if (channel_keeps(ch))
		kept_frames_add(ch->kept, len);
}

int channel_keep(struct channel *ch, const void *frame, size_t len, struct error *err)
{
	if (!channel_keeps(ch))
		return 0;
	if (len > KEPT_FRAME_MAX || ch->raw_len)
		return error_set(err, EINVAL, "a message that can't be kept");
	memcpy(ch->raw - WIRE_HEADER_BYTES, frame, len);
	kept_frames_add(ch->kept, len);
	return 0;
}

int channel_confirmed(struct channel *ch, uint64_t frames, struct error *err)
{
	return channel_keeps(ch) ? kept_frames_confirm(ch->kept, frames, err) : 0;
}
