/*
 * init.h - starting a container's first process
 */
#pragma once

#include "engine/monitor/monitor.h"

/* A monitor_start_fn (ctx: const bool *first, whether /etc is to be written):
 * clones the init into new pid, mount, uts, ipc and cgroup namespaces and the
 * monitor's network namespace, mounts, drops rights and executes the
 * container's program. Returns when the program runs, or fails with the
 * child's own error; its code is one of process.h's when the program itself is
 * why. */
int init_start(struct monitor_setup *s, void *ctx, pid_t *ret_pid, int *ret_terminal,
	       struct error *err);
