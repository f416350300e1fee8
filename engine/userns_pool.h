/*
 * userns_pool.h - giving out ranges of ids on a node
 *
 * What is given out is what the configurations of the node's containers have: there is
 * no other record. The pool is what /etc/subuid and /etc/subgid give the user "godwit"
 * (subuid(5)), or, where they give nothing, the ids that systemd's UIDS-GIDS.md calls
 * unused: USERNS_POOL_FIRST to USERNS_POOL_LAST.
 */
#pragma once

#include "engine/node.h"
#include "engine/spec.h"

#define USERNS_POOL_USER "godwit"
#define USERNS_POOL_FIRST 1879048192u
#define USERNS_POOL_LAST 2147483647u
#define USERNS_POOL_SIZE 65536u		/* of a range; what /etc/subuid has is cut into such */

/* Fills s->userns: 65536 uids and as many gids that no container here has. Where the search
 * begins depends on the container, so that nodes rarely give out the same range.
 * -ENOSPC. Call it, and create the container, under node_lock. */
int userns_choose(const struct node *node, struct spec *s, struct error *err);

/* For a container that has come from elsewhere. What it has stays if it is free here and, when
 * a node has chosen it, of this node's pool; else that becomes another choice. -EADDRINUSE: a map
 * given by hand is taken; -ENOSPC. Call it under node_lock, too. */
int userns_place(const struct node *node, struct spec *s, struct error *err);

/* 0, or -EADDRINUSE naming the container that has one of the ids already. */
int userns_check_free(const struct node *node, const struct userns *u, struct error *err);
