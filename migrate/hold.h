/*
 * hold.h - all threads of a process stand still for a moment
 *
 * By ptrace(2), from a helper process of its own: whatever becomes of us, its
 * end lets them go.
 *
 *   CLEANUP(hold_end) struct hold hold = HOLD_EMPTY;
 *   r = hold_begin(pid, 50000, &hold, err);
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "engine/base/error.h"

struct hold {
	pid_t helper;		/* 0: nothing is held */
	int sock;
};

#define HOLD_EMPTY { .sock = -EBADF }

/* -ETIMEDOUT when a thread doesn't stop within timeout_us. */
int hold_begin(pid_t pid, uint64_t timeout_us, struct hold *ret, struct error *err);

/* Lets go, and waits until all run again; also good for one that is empty. */
void hold_end(struct hold *hold);
