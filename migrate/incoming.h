/*
 * incoming.h - a container that came by a migration, until both sides know it
 *
 * The target's rows of protocol.h, for all but the copy's monitor (which has the
 * first two decisions, restore_monitor.c): the process that has the connection,
 * whoever is asked later, and whoever finds it when those are dead.
 *
 *	struct incoming in = { .node = node, .token = token, .container = c };
 *	r = incoming_event(&in, EVENT_SWEEP, err);
 */
#pragma once

#include "engine/container.h"
#include "migrate/channel/channel.h"
#include "migrate/protocol.h"

/* The mark: a file in its folder with its token. */

struct incoming {			/* all borrowed */
	const struct node *node;
	const char *token;
	struct container *container;	/* that has or had the mark; NULL: there is none */
	struct channel *channel;	/* to the source; NULL: it hears nothing */
	bool asked;			/* by QUERY */
};

/* What the disk says, now. */
int incoming_state(const struct incoming *in, enum protocol_state *ret, struct error *err);

/* Acts as the table says. May wait until processes have ended, or the disk has taken all. */
int incoming_event(const struct incoming *in, enum protocol_event event, struct error *err);

/* EVENT_SYNC, and what follows: 0 when the source may be told that all is on disk here, by us or
 * by somebody who was asked. -ESTALE: the record says something else; then nothing is removed. */
int incoming_sync(const struct incoming *in, struct error *err);

/* The container that has the mark with this token; *ret is NULL when there is none. */
int incoming_find(const struct node *node, const char *token, struct container **ret, struct error *err);

/* A container that nobody works on (locked) is here for good, and has no mark, when
 * this returns 0; it may be started, moved or removed. -ESTALE: it is lost here. */
int incoming_finish(struct container *c, struct error *err);

/* Settles all whose monitor and receiver are dead and left them unsettled, and drops
 * refusals that nobody can need any more. Where only the receiver is dead, its monitor's
 * end, which is near, is waited for so long at most. What was half made or written by
 * processes that are dead goes, too. What can't be settled stays, and the first of it is
 * the error. */
int incoming_sweep(const struct node *node, uint64_t patience_us, struct error *err);

/* The same for the container of this name only, without waiting. */
int incoming_sweep_one(const struct node *node, const char *name, struct error *err);
