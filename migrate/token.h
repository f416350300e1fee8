/*
 * token.h - what became of a migration, on the node that it went to
 *
 * A token is 128 random bits as 32 hex digits, made by the source for each
 * migration. The target's answer is a file STATE/tokens/TOKEN with one word,
 * "resumed" or "refused". It is made exactly once, by link(2) of a synced
 * file, so whoever is first decides: the monitor that is told to resume, or
 * whoever answers that nothing of the kind will happen. It is kept until the
 * source has acknowledged it (RELEASE).
 */
#pragma once

#include "engine/base/error.h"
#include "engine/node.h"

#define TOKEN_SIZE 33

enum token_outcome { TOKEN_UNKNOWN, TOKEN_RESUMED, TOKEN_REFUSED };

int token_make(char ret[TOKEN_SIZE], struct error *err);

/* Durably decides; *ret is what holds from now on, which may be what somebody
 * else decided before. On an error this call has decided nothing. */
int token_decide(const struct node *node, const char *token, enum token_outcome wanted,
		 enum token_outcome *ret, struct error *err);
int token_look_up(const struct node *node, const char *token, enum token_outcome *ret,
		  struct error *err);
int token_forget(const struct node *node, const char *token, struct error *err);
