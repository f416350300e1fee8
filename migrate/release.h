/*
 * release.h - what this node still owes others: STATE/releases/TOKEN
 *
 * A migration that is settled here is remembered until its target has said that
 * it has forgotten it: else that would keep its answer for ever (protocol.h).
 */
#pragma once

#include "migrate/handover.h"

int release_write(const struct node *node, const struct handover *h, struct error *err);
int release_read(const struct node *node, const char *token, struct handover *ret, struct error *err);
int release_remove(const struct node *node, const char *token, struct error *err);

/* What somebody who was killed was writing. */
void release_remove_temporary(const struct node *node);

/* Tokens; to be freed with fd_list_free. */
int release_list(const struct node *node, char ***ret, size_t *ret_n, struct error *err);
