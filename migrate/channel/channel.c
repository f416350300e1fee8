#include <poll.h>
#include <string.h>

#include "engine/base/fault.h"
#include "engine/base/fd.h"
#include "migrate/channel/channel_state.h"

#define SOFTWARE "godwit " GODWIT_VERSION

enum wire_side channel_other_side(const struct channel *ch)
{
	return ch->side == WIRE_SOURCE ? WIRE_TARGET : WIRE_SOURCE;
}

int channel_new(int fd_consumed, enum wire_side side, struct channel **ret, struct error *err)
{
	CLEANUP(channel_freep) struct channel *ch = calloc(1, sizeof(*ch));

	if (!ch) {
		fd_close(&fd_consumed);
		return error_set(err, ENOMEM, "out of memory");
	}
	*ch = (struct channel){ .fd = fd_consumed, .side = side, .sequence = SEQUENCE_INIT,
				.patience_us = CHANNEL_GREET_US };
	compression_init(&ch->compression, COMPRESSION_AUTO);
	(void)pthread_mutex_init(&ch->own_rate.lock, NULL);
	ch->rate = &ch->own_rate;
	channel_tune(ch->fd, CHANNEL_DEAD_US);
	fault_connection(ch->fd);
	ch->own_block = malloc(KEPT_FRAME_MAX);
	ch->room = malloc(WIRE_RAW_MAX_BYTES);
	if (!ch->own_block || !ch->room)
		return error_set(err, ENOMEM, "out of memory");
	ch->raw = ch->own_block + WIRE_HEADER_BYTES;
	if (frame_reader_new(&ch->reader, err) < 0 || block_encoder_new(&ch->encoder, err) < 0 ||
	    block_decoder_new(&ch->decoder, err) < 0 || checksum_new(&ch->sum, err) < 0)
		return -err->code;
	*ret = TAKE_PTR(ch);
	return 0;
}

void channel_free(struct channel *ch)
{
	channel_forget(ch);
}

void channel_forget(struct channel *ch)
{
	if (!ch)
		return;
	fault_connection(-EBADF);
	session_free(ch->session);
	fd_close(&ch->fd);
	frame_reader_free(ch->reader);
	buffer_free(&ch->out);
	block_encoder_free(ch->encoder);
	block_decoder_free(ch->decoder);
	checksum_free(ch->sum);
	free(ch->own_block);
	kept_frames_free(ch->kept);
	(void)pthread_mutex_destroy(&ch->own_rate.lock);
	free(ch->room);
	free(ch);
}

int channel_send(struct channel *ch, const struct message *m, struct error *err)
{
	if (sequence_step(&ch->sequence, ch->side, m->type, m, err) < 0)
		return -err->code;
	fault_pass_of("send", wire_type_name(m->type));
	ch->out.len = 0;
	if (message_encode_frame(m, &ch->out, err) < 0 || channel_keep(ch, ch->out.data, ch->out.len, err) < 0 ||
	    channel_send_frame(ch, ch->out.data, ch->out.len, NULL, 0, err) < 0 ||
	    channel_next_block(ch, err) < 0)
		return error_wrap(err, "send %s", wire_type_name(m->type));
	fault_pass_of("sent", wire_type_name(m->type));
	return 0;
}

static int take_abort(struct channel *ch, const struct message *m, struct error *err)
{
	ch->peer_aborted = true;
	return error_set(err, ECONNABORTED, "the other node gave up: %s%s%s", m->abort.message,
			 m->abort.state[0] ? "; " : "", m->abort.state);
}

/* Decodes the frame in hand; PROGRESS and RECEIVED return 1 and are dropped. */
int channel_take_message(struct channel *ch, const struct frame *f, struct message *ret,
			struct error *err)
{
	int r = message_decode(f->type, frame_reader_payload(ch->reader), f->length, ret, err);

	if (r == 0)
		r = sequence_step(&ch->sequence, channel_other_side(ch), f->type, ret, err);
	if (r == 0)
		fault_pass_of("received", wire_type_name(f->type));
	if (r == 0 && f->type == WIRE_ABORT)
		r = take_abort(ch, ret, err);
	if (r == 0 && f->type == WIRE_TREE_BEGIN)
		ch->compressed = ret->tree_begin.compressed;
	if (r == 0 && f->type == WIRE_RECEIVED)
		r = channel_confirmed(ch, ret->received.frames, err);
	if (r < 0 || f->type == WIRE_PROGRESS || f->type == WIRE_RECEIVED)
		message_free(ret);
	return r < 0 ? r : f->type == WIRE_PROGRESS || f->type == WIRE_RECEIVED;
}

int channel_receive(struct channel *ch, enum wire_type type, struct message *ret,
		    struct error *err)
{
	const struct frame *f;
	struct message m = { 0 };
	int r;

	do {
		r = channel_read_frame(ch, &f, err);
		if (r == 0)
			r = channel_take_message(ch, f, &m, err);
	} while (r == 1);
	if (r == 0 && type && m.type != type) {
		r = error_set(err, EPROTO, "expected %s, the peer sent %s", wire_type_name(type),
			      wire_type_name(m.type));
		message_free(&m);
	}
	if (r < 0)
		return type && !ch->peer_aborted ? error_wrap(err, "wait for %s", wire_type_name(type)) : r;
	*ret = m;
	return 0;
}

int channel_greet(struct channel *ch, const char *name, const char *id, struct channel_peer *ret,
		  struct error *err)
{
	const struct message ours = { .type = WIRE_HELLO, .hello = {
		.software = SOFTWARE, .version = WIRE_VERSION, .lowest_version = WIRE_LOWEST_VERSION,
		.node_name = name, .node_id = id } };
	struct message theirs = { 0 };
	uint32_t version;
	int r;

	if (channel_send(ch, &ours, err) < 0 || channel_receive(ch, WIRE_HELLO, &theirs, err) < 0)
		return -err->code;
	ch->patience_us = CHANNEL_PATIENCE_US;
	r = message_agree_version(&ours.hello, &theirs.hello, &version, err);
	if (r == 0 && ch->session && strcmp(theirs.hello.node_name, session_peer(ch->session)) != 0) {
		r = error_set(err, EACCES, "the peer calls itself '%s', but its certificate is of node '%s'",
			      theirs.hello.node_name, session_peer(ch->session));
		channel_abort(ch, err, "");
	}
	(void)snprintf(ret->name, sizeof(ret->name), "%s", theirs.hello.node_name);
	(void)snprintf(ret->id, sizeof(ret->id), "%s", theirs.hello.node_id);
	message_free(&theirs);
	return r;
}

void channel_abort(struct channel *ch, const struct error *why, const char *state)
{
	struct message m = { .type = WIRE_ABORT, .abort = {
		.code = "failed", .message = why->msg, .state = state } };
	struct error ignored;

	if (!ch || ch->peer_aborted)
		return;
	ch->cancelled = NULL;
	ch->stopped = false;
	ch->patience_us = CHANNEL_ABORT_US;
	channel_not_recoverable(ch);
	if (!ch->torn)
		(void)channel_send(ch, &m, &ignored);
}

struct channel_stats channel_stats(const struct channel *ch)
{
	return ch->stats;
}

void channel_stats_add(struct channel_stats *sum, struct channel_stats more)
{
	sum->raw_bytes += more.raw_bytes;
	sum->wire_bytes += more.wire_bytes;
	sum->compress_us += more.compress_us;
	sum->send_us += more.send_us;
	sum->rate_us += more.rate_us;
	sum->reconnects += more.reconnects;
	sum->resent_bytes += more.resent_bytes;
}

void channel_stop(struct channel *ch)
{
	ch->stopped = true;
}

bool channel_is_stopped(const struct channel *ch)
{
	return ch->stopped;
}

void channel_on_progress(struct channel *ch, void (*fn)(void *ctx, const struct channel_stats *s),
			 void *ctx)
{
	ch->progress = fn;
	ch->progress_ctx = ctx;
}

void channel_set_patience(struct channel *ch, uint64_t patience_us)
{
	ch->patience_us = patience_us;
}

void channel_not_cancellable(struct channel *ch)
{
	ch->cancelled = NULL;
}

bool channel_wait_readable(struct channel *ch, uint64_t timeout_us)
{
	struct pollfd p = { .fd = ch->fd, .events = POLLIN };

	return poll(&p, 1, (int)(timeout_us / 1000)) > 0;
}

int channel_fd(const struct channel *ch)
{
	return ch->fd;
}
