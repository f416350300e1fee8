/*
 * target_rejoin.h - a source whose connection was lost comes back
 *
 * While memory goes (PREPARED to FROZEN) the target keeps what it has for as long
 * as the source has said that it will try, and a little longer, and listens for it
 * at a door in the container's folder, one for each connection. JOIN with the
 * migration's token opens it. Meanwhile another offer of a container of this name
 * finds the source gone, and may take its place.
 */
#pragma once

#include "migrate/channel/channel.h"
#include "migrate/target.h"

/* From PREPARED on; nothing when the source does not mean to come back. */
int target_rejoin_begin(struct target *t, struct error *err);
void target_rejoin_end(struct target *t);

/* For a further connection: its door, who comes there first, and how it may come
 * back. May be called by a thread that has this connection for itself. */
int target_rejoin_open(struct target_connection *c, struct error *err);
void target_rejoin_close(struct target_connection *c);
int target_rejoin_await(struct target_connection *c, struct channel **ret, struct error *err);

/* In the process of another connection, ch, which has said JOIN: gives it to the one
 * of that migration. -EPERM when there is none, or the token is wrong. */
int target_rejoin_hand_over(const struct node *node, const struct message_join *join, struct channel *ch,
			    struct error *err);

/* Before an offer is judged: if a container of this name arrives whose source is
 * gone, whoever waits for that gives up, and has cleaned up when this returns. */
void target_rejoin_take_over(const struct node *node, const char *name);
