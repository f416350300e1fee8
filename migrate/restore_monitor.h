/*
 * restore_monitor.h - the monitor's side of a restore, see restore.h
 */
#pragma once

#include "engine/monitor/monitor.h"
#include "engine/rootfs.h"

/* Messages besides enum monitor_op, before the container runs. */
enum restore_op {
	RESTORE_PREPARED = MONITOR_OP_MAX_ + 100,
	RESTORE_GO,			/* with RESTORE_GO_FDS descriptors at most */
	RESTORE_DONE,			/* value: microseconds, pid; data: a struct timeline */
	RESTORE_COMMIT,
	RESTORE_RESUMED,		/* value: microseconds, real time; data: a struct timeline */
	RESTORE_OPEN,
};

/* Of RESTORE_GO: the workdir, the filler's ends, and the mounts of rootfs_tmpfs from
 * RESTORE_GO_TMPFS on. */
#define RESTORE_GO_TMPFS 3
#define RESTORE_GO_FDS (RESTORE_GO_TMPFS + ROOTFS_TMPFS_MAX)

/* A monitor_start_fn; ctx is a struct restore_plan. */
int restore_monitor_start(struct monitor_setup *s, void *ctx, pid_t *ret_pid, int *ret_terminal,
			  struct error *err);
