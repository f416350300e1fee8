/*
 * terminal.h - pseudo-terminals: pty(7), devpts of the kernel's documentation
 */
#pragma once

#include <termios.h>

#include "engine/base/error.h"

/* A new pair from the devpts that is mounted at path; both ends are the
 * caller's, CLOEXEC, the slave not the controlling terminal of anybody. */
int terminal_open(const char *devpts, int *ret_master, int *ret_slave, struct error *err);

/* Puts the terminal fd into raw mode; *ret_old is what to go back to. */
int terminal_make_raw(int fd, struct termios *ret_old, struct error *err);
int terminal_set_size(int fd, unsigned short rows, unsigned short columns);
int terminal_get_size(int fd, unsigned short *ret_rows, unsigned short *ret_columns);
