/*
 * check.h - 'godwit check' and 'godwit migrate --check'
 */
#pragma once

#include <signal.h>

#include "tools/command.h"

/* Prints whether the container can move, to host (HOST[:PORT]; NULL: as far as
 * can be told here), and every reason why not. Returns an exit code. */
int check_container(const struct node *node, const char *name, const char *host, bool json,
		    const volatile sig_atomic_t *cancelled);
