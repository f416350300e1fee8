/*
 * restore_monitor.h - the monitor's side of a restore, see restore.h
 */
#pragma once

#include "engine/monitor.h"

/* Messages besides enum monitor_op, before the container runs. */
enum restore_op {
	RESTORE_PREPARED = MONITOR_OP_MAX_ + 100,
	RESTORE_GO,			/* with the workdir's descriptor */
	RESTORE_DONE,			/* value: microseconds, pid */
	RESTORE_COMMIT,
	RESTORE_RESUMED,		/* value: microseconds, real time */
	RESTORE_OPEN,
};

/* A monitor_start_fn; ctx is a struct restore_plan. */
int restore_monitor_start(struct monitor_setup *s, void *ctx, pid_t *ret_pid, int *ret_terminal,
			  struct error *err);
