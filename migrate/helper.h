/*
 * helper.h - a process of our own that does one thing apart
 *
 * For what a process must not do to itself (setns(2)), or what must end when we
 * are killed (ptrace(2)). It talks by messages over a socket (unix(7),
 * SOCK_SEQPACKET), and no signal of a terminal reaches it.
 *
 *   CLEANUP(helper_end) struct helper h = HELPER_EMPTY;
 *   r = helper_start(run, &what, &h, err);
 */
#pragma once

#include <errno.h>
#include <sys/types.h>

#include "engine/base/error.h"

struct helper {
	pid_t pid;		/* 0: none */
	int sock;
};

#define HELPER_EMPTY { .sock = -EBADF }

/* In the helper, which ends when this returns. */
typedef void helper_fn(int sock, const void *what);

int helper_start(helper_fn *run, const void *what, struct helper *ret, struct error *err);

/* Closes our end of the socket and waits until it has ended; also good for none. */
void helper_end(struct helper *h);
