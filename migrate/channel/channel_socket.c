/* A channel's socket: bytes out, whole frames in, and all waiting. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "engine/base/clock.h"
#include "engine/base/fault.h"
#include "migrate/channel/channel_state.h"

#define LOOK_AGAIN_US 200000

/* A peer that is silently gone is noticed by keep-alive while we wait for it,
 * and by TCP_USER_TIMEOUT while it owes us acknowledgements. tcp(7) */
void channel_tune(int fd, uint64_t dead_us)
{
	const int dead_s = (int)fault_value("peer-dead-s", (dead_us + 999999) / 1000000);
	const int one = 1, count = 5, idle = (dead_s + count) / (count + 1), interval = idle;
	const unsigned user_ms = (unsigned)dead_s * 1000;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_ms, sizeof(user_ms));
}

/* The socket does not block; all waiting is here. */
int channel_wait(struct channel *ch, short events, struct error *err)
{
	struct pollfd p[] = { { .fd = ch->fd, .events = events },
			      { .fd = ch->recovery.again_fd, .events = POLLIN } };
	nfds_t n_fds = ch->recovery.reconnect && ch->recovery.again_fd >= 0 ? 2 : 1;
	uint64_t now = clock_us(), end = now + ch->patience_us;

	for (int n = 0; n == 0; now = clock_us()) {
		uint64_t left = end > now ? end - now : 0;

		if (channel_check_cancelled(ch, err) < 0)
			return -err->code;
		if (left == 0)
			return error_set(err, ETIMEDOUT, "the peer has not answered for %.3g s",
					 (double)ch->patience_us / 1e6);
		/* A signal that came before poll does not end it, nor does another thread. */
		if (left > LOOK_AGAIN_US)
			left = LOOK_AGAIN_US;
		n = poll(p, n_fds, (int)((left + 999) / 1000));
		if (n < 0 && errno != EINTR)
			return error_set(err, errno, "poll: %s", strerror(errno));
		if (n < 0)
			n = 0;
	}
	if (n_fds == 2 && p[1].revents)
		return error_set(err, ECONNRESET, "the peer has connected again");
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
	return channel_write(ch, copy, head_len + len, NULL, 0, err);
}

/* Cancelled in the middle of a frame: only a whole one lets ABORT follow, but that
 * may not take long. */
static void finish_frame(struct channel *ch)
{
	ch->cancelled = NULL;
	ch->stopped = false;
	ch->patience_us = CHANNEL_ABORT_US;
}

/* ch->torn: a part of it is gone, in any case. */
static int send_all(struct channel *ch, struct iovec iov[2], struct error *err)
{
	size_t left = iov[0].iov_len + iov[1].iov_len;
	bool given_up = false;

	ch->stats.wire_bytes += left;
	while (left) {
		struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };
		ssize_t n = sendmsg(ch->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return error_set(err, errno, "send: %s", strerror(errno));
		if (n < 0 && channel_wait(ch, POLLOUT, err) < 0) {
			if (err->code != ECANCELED || !ch->torn)
				return -err->code;
			given_up = true;
			finish_frame(ch);
		}
		if (n > 0) {
			skip(iov, (size_t)n);
			left -= (size_t)n;
			ch->torn = true;
		}
	}
	ch->torn = false;
	return given_up ? error_set(err, ECANCELED, "cancelled") : 0;
}

/* What is sealed has its place in the stream, and can't be left out any more. */
int channel_flush(struct channel *ch, struct error *err)
{
	struct iovec iov[2] = { { 0 } };
	int r;

	if (!ch->session)
		return 0;
	iov[0].iov_base = (void *)(uintptr_t)session_pending(ch->session, &iov[0].iov_len);
	ch->torn = iov[0].iov_len > 0;
	r = send_all(ch, iov, err);
	if (!ch->torn)
		session_sent(ch->session);
	return r;
}

int channel_write(struct channel *ch, const void *head, size_t head_len, const void *data, size_t len,
		  struct error *err)
{
	struct iovec iov[2] = { { .iov_base = (void *)(uintptr_t)head, .iov_len = head_len },
				{ .iov_base = (void *)(uintptr_t)data, .iov_len = len } };

	if (fault_corrupts())
		return send_spoilt(ch, head, head_len, data, len, err);
	ch->torn = false;
	if (!ch->session)
		return send_all(ch, iov, err);
	return session_seal(ch->session, head, head_len, err) < 0 || session_seal(ch->session, data, len, err) < 0 ?
	       -err->code : channel_flush(ch, err);
}

/* As recv(2): 0 when the peer has hung up, -EAGAIN when nothing is there. */
static ssize_t receive(struct channel *ch, void *space, size_t size, struct error *err)
{
	ssize_t n;

	if (ch->session) {
		n = session_read(ch->session, space, size, err);
		ch->stats.wire_bytes += session_received(ch->session);
		return n;
	}
	n = recv(ch->fd, space, size, MSG_DONTWAIT);
	if (n >= 0)
		ch->stats.wire_bytes += (uint64_t)n;
	else if (errno == EAGAIN || errno == EINTR)
		return -EAGAIN;
	else
		return error_set(err, errno, "receive: %s", strerror(errno));
	return n;
}

/* The first that comes from somebody who speaks TLS: RFC 8446, 5.1. */
static bool is_tls(const struct channel *ch, const uint8_t *bytes, ssize_t n)
{
	return !ch->session && ch->sequence.state < SEQUENCE_OPEN && n > 2 && bytes[0] == 22 && bytes[1] == 3;
}

int channel_read(struct channel *ch, bool wait, const struct frame **ret, struct error *err)
{
	for (;;) {
		size_t size;
		void *space = frame_reader_space(ch->reader, &size);
		ssize_t n = receive(ch, space, size, err);
		int r;

		if (n == 0)
			return error_set(err, ECONNRESET, "the peer hung up");
		if (n < 0 && n != -EAGAIN)
			return (int)n;
		if (n < 0 && !wait)
			return 1;
		if (n < 0) {
			if (channel_wait(ch, POLLIN, err) < 0)
				return -err->code;
			continue;
		}
		if (is_tls(ch, space, n))
			return error_set(err, EACCES, "the peer wants TLS, and this node does without (--insecure, "
					 "GODWIT_INSECURE): give it a certificate, see 'godwit help tls init'");
		r = frame_reader_advance(ch->reader, (size_t)n, err);
		if (r < 0)
			return r;
		if (r == 1)
			break;
	}
	*ret = frame_reader_frame(ch->reader);
	return 0;
}

void channel_await_end(struct channel *ch, uint64_t patience_us)
{
	uint64_t now = clock_us(), end = now + patience_us;
	char junk[4096];

	(void)shutdown(ch->fd, SHUT_WR);
	for (; now < end; now = clock_us()) {
		struct pollfd p = { .fd = ch->fd, .events = POLLIN };

		if (poll(&p, 1, (int)((end - now + 999) / 1000)) <= 0)
			continue;
		if (recv(ch->fd, junk, sizeof(junk), MSG_DONTWAIT) <= 0)
			return;
	}
}
