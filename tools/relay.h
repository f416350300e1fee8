/*
 * relay.h - standing for a child of ours in a container: its output to ours, our
 * input and signals to it, until it has ended
 */
#pragma once

#include "engine/exec.h"

/* Takes the descriptors of e; terminal: it has one, which ours shall be like; input: our
 * standard input goes to it. Returns when the child has ended, with its exit code. */
int relay_attend(struct exec *e, bool terminal, bool input, int *ret_code, struct error *err);
