/*
 * settle.h - the source's actions of protocol.h; and who comes later and asks
 *
 * What source_migrate does from the decision on, resolve and serve can do in its
 * place, by what is on disk. They hold the container's lock.
 *
 *	r = settle_container(c, &how, err);
 */
#pragma once

#include "migrate/source.h"

/* ctx is a struct source. */
extern const protocol_do settle_does[PROTOCOL_ACTION_MAX_];

#define SETTLE_ASK_US 10000000u		/* for the connection, and for each word of the peer */

/* Asks over a new connection, which is s->channel from then on. *ret is one of
 * EVENT_TOLD_...; it is the caller's to act upon. */
int settle_ask(struct source *s, uint64_t within_us, enum protocol_event *ret, struct error *err);

/* -ESTALE: it ran there and was lost, and volumes that both see may be newer than its memory here. */
int settle_check_lost(const struct source *s, enum protocol_event event, struct error *err);

/* After RELEASE was sent: waits for FORGOTTEN, and acts by it. */
int settle_hear_forgotten(struct source *s, struct error *err);

enum settled {
	SETTLED_GONE,			/* it runs on the target; the original is removed */
	SETTLED_HERE,			/* it never ran there, and goes on here */
	SETTLED_LOST_THERE,		/* it ran there until that machine crashed, and goes on here as at the move */
};

/* Asks the peer of a container's decision, and acts by the answer. -ENOENT: nothing was
 * decided. -EINPROGRESS: it runs there and is not on disk yet. -ESTALE: settle_check_lost.
 * Another negative: the peer can't be asked. In all of them it stays as it was. */
int settle_container(struct container *c, enum settled *ret, struct error *err);

/* By hand, without asking: destroys the original, or lets it go on. */
int settle_by_hand(struct container *c, bool gone, struct error *err);

/* Tells a target that it may forget a migration that is settled here (release.h).
 * -EAGAIN: it isn't. */
int settle_release(const struct node *node, const char *token, struct error *err);
