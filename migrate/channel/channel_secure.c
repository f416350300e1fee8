/* TLS between a channel and its socket: handshakes, and a socket that changes hands. */
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "engine/base/clock.h"
#include "migrate/channel/channel_state.h"

#define LAST_WORDS_US 1000000u		/* for the peer to hear why it is refused */

#define HOST_MAX 96
#define AGAIN_US 5000000u		/* for a peer that we knew a moment ago */

/* All of it, not only each wait, takes so long at most. */
static int shake_hands(struct channel *ch, uint64_t within_us, struct error *err)
{
	const uint64_t end = clock_us() + within_us;
	uint64_t now;
	int r;

	while ((r = session_handshake(ch->session, err)) == 1) {
		now = clock_us();
		ch->patience_us = end > now ? end - now : 0;
		if (channel_flush(ch, err) < 0 || channel_wait(ch, POLLIN, err) < 0)
			return error_wrap(err, "TLS handshake");
	}
	return r;
}

/* The peer hears why, in the way that it understands. */
static void refuse(struct channel *ch, const struct error *why)
{
	struct error ignored;

	ch->patience_us = LAST_WORDS_US;
	if (ch->side == WIRE_TARGET && session_peer_is_plain(ch->session)) {
		session_free(TAKE_PTR(ch->session));
		channel_abort(ch, why, "");
	} else {
		(void)channel_flush(ch, &ignored);
	}
	channel_await_end(ch, LAST_WORDS_US);
}

int channel_secure(struct channel *ch, const struct node *node, uint64_t within_us, struct error *err)
{
	const uint64_t patience_us = ch->patience_us;
	int r;

	if (node->insecure)
		return 0;
	if (session_new(node, ch->fd, ch->side == WIRE_TARGET, &ch->session, err) < 0)
		return -err->code;
	r = shake_hands(ch, within_us, err);
	if (r == 0)
		r = channel_flush(ch, err);
	ch->stats.wire_bytes += session_received(ch->session);
	ch->patience_us = patience_us;
	if (r < 0 && ch->side == WIRE_TARGET && session_peer_is_plain(ch->session))
		(void)error_set(err, EACCES, "this node wants TLS, and the one that has connected does without: give "
				"it a certificate ('godwit tls issue' on the node that has the CA)");
	if (r < 0)
		refuse(ch, err);
	return r < 0 ? -err->code : 0;
}

/* For the log; later it may have hung up. */
static void name_peer(int fd, char ret[HOST_MAX])
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	(void)snprintf(ret, HOST_MAX, "?");
	if (getpeername(fd, (struct sockaddr *)&a, &len) == 0)
		(void)getnameinfo((struct sockaddr *)&a, len, ret, HOST_MAX, NULL, 0, NI_NUMERICHOST);
	/* One of IPv4 on a socket of both. */
	if (!strncmp(ret, "::ffff:", 7) && strchr(ret, '.'))
		memmove(ret, ret + 7, strlen(ret + 7) + 1);
}

static int accept_within(const struct node *node, int fd_consumed, uint64_t within_us, struct channel **ret,
			 struct error *err)
{
	CLEANUP(channel_freep) struct channel *ch = NULL;
	char host[HOST_MAX];

	if (channel_accepted(fd_consumed, &ch, err) < 0)
		return -err->code;
	name_peer(ch->fd, host);
	if (channel_secure(ch, node, within_us, err) < 0)
		return error_wrap(err, "connection from %s", host);
	*ret = TAKE_PTR(ch);
	return 0;
}

int channel_accept(const struct node *node, int fd_consumed, struct channel **ret, struct error *err)
{
	return accept_within(node, fd_consumed, CHANNEL_GREET_US, ret, err);
}

/* ---- another process ---- */

static int check_peer(const struct channel *ch, const char *peer, struct error *err)
{
	if (!ch->session || !strcmp(session_peer(ch->session), peer))
		return 0;
	return error_set(err, EACCES, "node '%s' has taken the place of '%s'", session_peer(ch->session), peer);
}

int channel_end_session(struct channel *ch, struct error *err)
{
	if (!ch->session)
		return 0;
	return session_end(ch->session, err) < 0 ? -err->code : channel_flush(ch, err);
}

int channel_accept_again(const struct node *node, int fd_consumed, const char *peer, struct channel **ret,
			 struct error *err)
{
	CLEANUP(channel_freep) struct channel *ch = NULL;

	if (accept_within(node, fd_consumed, AGAIN_US, &ch, err) < 0 || check_peer(ch, peer, err) < 0)
		return -err->code;
	*ret = TAKE_PTR(ch);
	return 0;
}

int channel_begin_again(struct channel *ch, const struct node *node, const char *peer, struct error *err)
{
	struct message m = { 0 };
	int r;

	if (!ch->session)
		return 0;
	r = channel_receive(ch, 0, &m, err);
	if (r == 0) {
		message_free(&m);
		return error_set(err, EPROTO, "the peer goes on with a session that was to end");
	}
	if (!session_has_ended(ch->session))
		return r;
	session_free(TAKE_PTR(ch->session));
	if (channel_secure(ch, node, ch->patience_us, err) < 0)
		return -err->code;
	return check_peer(ch, peer, err);
}
