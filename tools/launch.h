/*
 * launch.h - starting a container that has a folder, and waiting for the word
 * of its monitor; shared by run and start
 */
#pragma once

#include "engine/container.h"

struct launch {
	bool first;			/* /etc is written; a failure removes the folder */
	bool attach;
};

/* *ret_control is the connection to the monitor, *ret_pid the init. A failure
 * code of PROCESS_NOT_FOUND or PROCESS_NOT_EXECUTABLE is about the program. */
int launch(struct container *c, const struct launch *how, int *ret_control, pid_t *ret_pid,
	   struct error *err);

/* Waits until the monitor, which is a child of this process, has gone: after
 * the end of the container was told, so that nothing at all is left. */
void launch_reap(void);

/* The exit code for a start that failed. */
int launch_exit_code(const struct error *err);
