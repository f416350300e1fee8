/*
 * hold.h - all threads of a process stand still for a moment
 *
 * By ptrace(2), from a helper: whatever becomes of us, its end lets them go.
 *
 *   CLEANUP(helper_end) struct helper hold = HELPER_EMPTY;
 *   r = hold_begin(pid, 50000, &hold, err);
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "engine/base/error.h"
#include "migrate/helper.h"

/* Until the helper is ended. -ETIMEDOUT when a thread doesn't stop within timeout_us. */
int hold_begin(pid_t pid, uint64_t timeout_us, struct helper *ret, struct error *err);
