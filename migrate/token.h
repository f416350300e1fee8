/*
 * token.h - what became of a migration, on the node that it went to
 *
 * A token is 128 random bits as 32 hex digits, made by the source for each
 * migration. The target's answer is a file STATE/tokens/TOKEN (protocol.h). It is
 * made exactly once, by link(2) of a synced file, so whoever is first decides:
 * the monitor that is told to resume, or whoever answers that nothing of the kind
 * will happen. It names the boot in which it was made: what was resumed in another
 * one, and was not synced, is lost.
 */
#pragma once

#include "engine/base/error.h"
#include "engine/node.h"

#define TOKEN_SIZE 33

enum token_outcome { TOKEN_UNKNOWN, TOKEN_REFUSED, TOKEN_RESUMED, TOKEN_SYNCED, TOKEN_LOST };

int token_make(char ret[TOKEN_SIZE], struct error *err);

/* Durably decides, RESUMED or REFUSED; *ret is what holds from now on, which may be what somebody
 * else decided before, and is on disk then as well. On an error this call has decided nothing. */
int token_decide(const struct node *node, const char *token, enum token_outcome wanted,
		 enum token_outcome *ret, struct error *err);

/* Durably turns RESUMED into SYNCED, or makes sure that this is on disk. -ENOENT:
 * there is no such record (any more), and there is none after it. */
int token_write_synced(const struct node *node, const char *token, struct error *err);
int token_look_up(const struct node *node, const char *token, enum token_outcome *ret,
		  struct error *err);

/* Removes what processes that were killed did not finish to write. */
void token_remove_temporary(const struct node *node);

/* Durable, also when it was gone before. */
int token_forget(const struct node *node, const char *token, struct error *err);

/* All that there are records of; free each and the array. */
int token_list(const struct node *node, char ***ret, size_t *ret_n, struct error *err);
