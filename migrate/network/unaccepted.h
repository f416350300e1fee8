/*
 * unaccepted.h - connections that no program has accepted yet
 *
 * They belong to no process, and CRIU dumps none of them. While new ones are kept
 * out (gate_hold_new) the programs take those that there are within milliseconds.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "engine/base/error.h"

#define UNACCEPTED_WAIT_US 500000
/* As long again for handshakes: after it the kernel has answered a client anew that is silent
 * (RFC 6298 section 2.1). */
#define UNACCEPTED_SILENT_US 1100000

/* Waits until none is left in the network namespace of that process, neither one that is
 * being set up, unless its client is silent: nobody would wait for that, and it asks again
 * if it is still there. -EBUSY, with the port, when there still are after wait_us, or those that
 * are being set up after UNACCEPTED_SILENT_US more. */
int unaccepted_wait(pid_t pid, uint64_t wait_us, struct error *err);

/* True when a program has not taken one for LOOK_US, with its port. */
#define UNACCEPTED_LOOK_US 100000
bool unaccepted_stuck(int diag_fd, unsigned *ret_port);
