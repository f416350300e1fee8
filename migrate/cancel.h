/*
 * cancel.h - ending a migration or checkpoint from outside
 *
 * The container's monitor knows whose connection froze it or will, and asks that
 * process to give up (MONITOR_CANCEL).
 */
#pragma once

#include "engine/container.h"

/* Returns 0 when it was given up and the container runs here as before, 1 when
 * it was too late: it is decided that it moves, or it has. -ESRCH: nothing is
 * under way; -ETIMEDOUT: it takes longer than patience_us. */
int cancel_operation(const struct container *c, uint64_t patience_us, struct error *err);
