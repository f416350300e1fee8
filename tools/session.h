/*
 * session.h - standing for a container's process: its output to ours, our
 * input and signals to it, until it has exited
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "engine/base/error.h"

struct session {
	int control;			/* to the monitor, attached already; borrowed */
	pid_t pid;			/* the container's init */
	bool terminal;			/* it has one: raw mode, window size */
	bool input;			/* our standard input goes to it */
};

/* 0 with the container's exit code, or 1 when the user detached (ctrl-p
 * ctrl-q on a terminal) and it goes on running. */
int session_run(const struct session *s, int *ret_exit_code, struct error *err);
