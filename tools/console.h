/*
 * console.h - this process's terminal and signals while it stands for a
 * container's process: raw mode, window size, signals to pass on
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <termios.h>

#include "engine/base/error.h"

struct console {
	bool raw;			/* old is to be restored */
	struct termios old;
	sigset_t old_mask;
	int signal_fd;			/* readable: console_signal */
};

/* Takes the signals that are passed on (SIGINT, SIGTERM, SIGWINCH and so on)
 * to signal_fd, and with terminal sets standard input to raw mode. */
int console_open(bool terminal, struct console *ret, struct error *err);
void console_close(struct console *c);

/* The next signal, 0 when there is none. */
int console_signal(const struct console *c);
