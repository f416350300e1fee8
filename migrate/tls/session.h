/*
 * session.h - TLS on one connection: bytes in, sealed bytes out, who the peer is
 *
 * TLS 1.3 (RFC 8446) with certificates of both sides, which the cluster's CA has signed. There
 * are no tickets and no early data: nothing but what the owner asks for is ever sent. What is
 * sealed is kept here until the owner has sent it; only reading touches the socket itself, and
 * it never takes more from it than the record that is wanted, and the header of the next, if
 * that is there: so a poll of the socket tells the truth.
 *
 * One thread uses it. After a fork only one of both processes may go on with it: two would seal
 * different bytes alike, and that gives the key away (SP 800-38D, 8). The end of a connection is
 * not announced (close_notify), as every conversation has an end of its own; but for
 * session_end, after which the bare socket serves another session.
 *
 *	session_new(node, fd, true, &s, err);
 *	while ((r = session_handshake(s, err)) == 1)
 *		... send what session_pending says, wait until fd is readable ...
 *	session_seal(s, data, len, err);
 *	... send what session_pending says, session_sent(s) ...
 *	n = session_read(s, buf, size, err);
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"
#include "engine/node.h"

struct session;

/* Around a connected socket (borrowed), with this node's credentials as they are now. */
int session_new(const struct node *node, int fd, bool accepts, struct session **ret, struct error *err);
void session_free(struct session *s);
DEFINE_CLEANUP(struct session *, session_free)

/* 0: done, the peer is a member of the cluster, and the key is forgotten here. 1: more is needed from it. -EACCES,
 * -EKEYEXPIRED: its certificate is refused, or ours by it; -EPROTO: it speaks no TLS. There may be something to
 * send in each case. */
int session_handshake(struct session *s, struct error *err);

/* Nothing of TLS came, but the first bytes of a node that does without. */
bool session_peer_is_plain(const struct session *s);

/* By its certificate; valid after the handshake. */
const char *session_peer(const struct session *s);

/* Whether the peer's certificate is for this host, too: a name, not an address. */
int session_check_host(const struct session *s, const char *host, struct error *err);

int session_seal(struct session *s, const void *data, size_t len, struct error *err);

/* What is to be sent; after session_sent there is nothing. */
const void *session_pending(const struct session *s, size_t *ret_len);
void session_sent(struct session *s);

/* > 0: so many bytes; 0: the peer has hung up; -EAGAIN, without an error: there is nothing yet. */
ssize_t session_read(struct session *s, void *buf, size_t size, struct error *err);

/* Since the last call: bytes that came, as they were on the wire. */
size_t session_received(struct session *s);

/* This session ends, and the socket stays; it is to be told to the peer as usual. */
int session_end(struct session *s, struct error *err);

/* After session_read has returned 0: it was not the connection but only the session that has ended. */
bool session_has_ended(const struct session *s);
