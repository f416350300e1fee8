/*
 * incoming.h - a container that was to arrive, and nobody works on it any more
 *
 * Its folder says CONTAINER_INCOMING and holds its token; what the token says
 * (token.h) is what it is: the only copy, or nothing.
 */
#pragma once

#include "engine/container.h"

/* Its token, in its folder. */
#define INCOMING_TOKEN "token"

/* The source has let go of it, so here is the only copy, complete: it runs from
 * now on as one that has lost its monitor. */
int incoming_adopt(const struct container *c, struct error *err);

/* Adopts or removes it, as its token says. Only its monitor decides for it, so
 * once that is dead and the copy is gone, nobody needs a refusal to be
 * remembered. May wait until its processes have ended. */
int incoming_settle(const struct container *c, struct error *err);

/* Settles all that are incoming and whose monitor and receiver are dead; where
 * only the receiver is, the monitor's end, which is near, is waited for so long
 * at most. What can't be settled stays, and the first of it is the error. */
int incoming_sweep(const struct node *node, uint64_t patience_us, struct error *err);
