#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "engine/base/clock.h"
#include "engine/base/fault.h"
#include "engine/base/fd.h"
#include "migrate/channel_state.h"

#define SOFTWARE "godwit " GODWIT_VERSION
#define LOOK_AGAIN_US 200000

enum wire_side channel_other_side(const struct channel *ch)
{
	return ch->side == WIRE_SOURCE ? WIRE_TARGET : WIRE_SOURCE;
}

/* A peer that is silently gone is noticed by keep-alive while we wait for it,
 * and by TCP_USER_TIMEOUT while it owes us acknowledgements. tcp(7) */
static void tune_socket(int fd)
{
	const int dead_s = (int)fault_value("peer-dead-s", CHANNEL_DEAD_US / 1000000);
	const int one = 1, count = 5, idle = (dead_s + count) / (count + 1), interval = idle;
	const unsigned user_ms = (unsigned)dead_s * 1000;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_ms, sizeof(user_ms));
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
	tune_socket(ch->fd);
	fault_connection(ch->fd);
	ch->raw = malloc(WIRE_DATA_MAX_BYTES);
	ch->room = malloc(WIRE_RAW_MAX_BYTES);
	if (!ch->raw || !ch->room)
		return error_set(err, ENOMEM, "out of memory");
	if (frame_reader_new(&ch->reader, err) < 0 || block_encoder_new(&ch->encoder, err) < 0 ||
	    block_decoder_new(&ch->decoder, err) < 0 || checksum_new(&ch->sum, err) < 0)
		return -err->code;
	*ret = TAKE_PTR(ch);
	return 0;
}

void channel_free(struct channel *ch)
{
	if (!ch)
		return;
	fault_connection(-EBADF);
	fd_close(&ch->fd);
	frame_reader_free(ch->reader);
	buffer_free(&ch->out);
	block_encoder_free(ch->encoder);
	block_decoder_free(ch->decoder);
	checksum_free(ch->sum);
	free(ch->raw);
	free(ch->room);
	free(ch);
}

int channel_accept(int fd_consumed, struct channel **ret, struct error *err)
{
	return channel_new(fd_consumed, WIRE_TARGET, ret, err);
}

/* The socket does not block; all waiting is here. */
static int wait_for(struct channel *ch, short events, struct error *err)
{
	struct pollfd p = { .fd = ch->fd, .events = events };
	uint64_t now = clock_us(), end = now + ch->patience_us;

	for (int n = 0; n == 0; now = clock_us()) {
		uint64_t left = end > now ? end - now : 0;

		if (ch->cancelled && *ch->cancelled)
			return error_set(err, ECANCELED, "cancelled");
		if (left == 0)
			return error_set(err, ETIMEDOUT, "the peer has not answered for %.3g s",
					 (double)ch->patience_us / 1e6);
		/* A signal that came before poll does not end it. */
		if (ch->cancelled && left > LOOK_AGAIN_US)
			left = LOOK_AGAIN_US;
		n = poll(&p, 1, (int)((left + 999) / 1000));
		if (n < 0 && errno != EINTR)
			return error_set(err, errno, "poll: %s", strerror(errno));
		if (n < 0)
			n = 0;
	}
	return 0;
}

static void skip(struct iovec *iov, size_t n)
{
	for (; n && n >= iov->iov_len; iov++) {
		n -= iov->iov_len;
		iov->iov_len = 0;
	}
	if (n) {
		iov->iov_base = (char *)iov->iov_base + n;
		iov->iov_len -= n;
	}
}

/* A peer that gives up says why before it hangs up; sending may fail before we
 * have heard that. */
static int hear_last_words(struct channel *ch, struct error *err)
{
	struct error why;
	const struct frame *f;
	struct message m = { 0 };
	int r = 1;

	while (r == 1) {
		r = channel_read_frame(ch, &f, &why);
		if (r == 0)
			r = channel_take_message(ch, f, &m, &why);
	}
	if (r == 0)
		message_free(&m);
	if (ch->peer_aborted)
		*err = why;
	return -err->code;
}

/* The last byte is flipped on its way. */
static int send_spoilt(struct channel *ch, const void *head, size_t head_len, const void *data,
		       size_t len, struct error *err)
{
	CLEANUP(freep) uint8_t *copy = malloc(head_len + len);

	if (!copy)
		return error_set(err, ENOMEM, "out of memory");
	memcpy(copy, head, head_len);
	if (len)
		memcpy(copy + head_len, data, len);
	copy[head_len + len - 1] ^= 0x40;
	return channel_send_all(ch, copy, head_len + len, NULL, 0, err);
}

int channel_send_all(struct channel *ch, const void *head, size_t head_len, const void *data,
		    size_t len, struct error *err)
{
	struct iovec iov[2] = { { .iov_base = (void *)(uintptr_t)head, .iov_len = head_len },
				{ .iov_base = (void *)(uintptr_t)data, .iov_len = len } };
	size_t left = head_len + len;

	if (fault_corrupts())
		return send_spoilt(ch, head, head_len, data, len, err);
	ch->stats.wire_bytes += left;
	while (left) {
		struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };
		ssize_t n = sendmsg(ch->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			(void)error_set(err, errno, "send: %s", strerror(errno));
			return err->code == EPIPE || err->code == ECONNRESET ? hear_last_words(ch, err) : -err->code;
		}
		if (n < 0 && wait_for(ch, POLLOUT, err) < 0)
			return -err->code;
		if (n > 0) {
			skip(iov, (size_t)n);
			left -= (size_t)n;
		}
	}
	return 0;
}

int channel_send(struct channel *ch, const struct message *m, struct error *err)
{
	if (sequence_step(&ch->sequence, ch->side, m->type, m, err) < 0)
		return -err->code;
	fault_pass_of("send", wire_type_name(m->type));
	ch->out.len = 0;
	if (message_encode_frame(m, &ch->out, err) < 0 ||
	    channel_send_all(ch, ch->out.data, ch->out.len, NULL, 0, err) < 0)
		return error_wrap(err, "send %s", wire_type_name(m->type));
	fault_pass_of("sent", wire_type_name(m->type));
	return 0;
}

/* One whole frame into the reader. */
int channel_read_frame(struct channel *ch, const struct frame **ret, struct error *err)
{
	for (;;) {
		size_t size;
		void *space = frame_reader_space(ch->reader, &size);
		ssize_t n = recv(ch->fd, space, size, MSG_DONTWAIT);
		int r;

		if (n == 0)
			return error_set(err, ECONNRESET, "the peer hung up");
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return error_set(err, errno, "receive: %s", strerror(errno));
		if (n < 0) {
			if (wait_for(ch, POLLIN, err) < 0)
				return -err->code;
			continue;
		}
		ch->stats.wire_bytes += (uint64_t)n;
		r = frame_reader_advance(ch->reader, (size_t)n, err);
		if (r < 0)
			return r;
		if (r == 1)
			break;
	}
	*ret = frame_reader_frame(ch->reader);
	return sequence_check(&ch->sequence, channel_other_side(ch), (*ret)->type, err);
}

static int take_abort(struct channel *ch, const struct message *m, struct error *err)
{
	ch->peer_aborted = true;
	return error_set(err, ECONNABORTED, "the other node gave up: %s%s%s", m->abort.message,
			 m->abort.state[0] ? "; " : "", m->abort.state);
}

/* Decodes the frame in hand; PROGRESS returns 1 and is dropped. */
int channel_take_message(struct channel *ch, const struct frame *f, struct message *ret,
			struct error *err)
{
	int r = message_decode(f->type, frame_reader_payload(ch->reader), f->length, ret, err);

	if (r == 0)
		r = sequence_step(&ch->sequence, channel_other_side(ch), f->type, ret, err);
	if (r == 0 && f->type == WIRE_ABORT)
		r = take_abort(ch, ret, err);
	if (r == 0)
		fault_pass_of("received", wire_type_name(f->type));
	if (r == 0 && f->type == WIRE_TREE_BEGIN)
		ch->compressed = ret->tree_begin.compressed;
	if (r < 0 || f->type == WIRE_PROGRESS)
		message_free(ret);
	return r < 0 ? r : f->type == WIRE_PROGRESS;
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

	if (ch && !ch->peer_aborted) {
		ch->cancelled = NULL;
		(void)channel_send(ch, &m, &ignored);
	}
}

struct channel_stats channel_stats(const struct channel *ch)
{
	return ch->stats;
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
