/*
 * departed.h - addresses whose containers have left this node, and live on elsewhere
 *
 * An empty file each: STATE/departed/ADDRESS. A note stays until the address is given
 * out again, which address.h does last and only when nobody answers for it. For the
 * node's own bridge: named networks know where their addresses are.
 */
#pragma once

#include "engine/node.h"

/* With or without prefix length; durable on return. Noting it again is no error. */
int departed_note(const struct node *node, const char *address, struct error *err);
bool departed_has(const struct node *node, const char *address);
void departed_forget(const struct node *node, const char *address);
