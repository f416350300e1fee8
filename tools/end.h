/*
 * end.h - bringing a container to its end; shared by stop, kill and rm
 */
#pragma once

#include <stdint.h>

#include "engine/container.h"

/* Tells the monitor, if there is a restart policy, that a person ends the container. */
int end_announce(const struct container *c, const struct container_state *st, struct error *err);

/* One whose monitor was killed gets another one, if nobody else works on it. */
void end_mend(struct container *c);

/* The container must be running and not be a migration's. */
int end_check(const struct container *c, struct container_state *ret, struct error *err);

/* Sends a signal to the init of a container that runs. */
int end_signal(const struct container *c, const struct container_state *st, int sig,
	       struct error *err);

/* Between the two steps of an end: several can end at once. */
struct ending {
	int monitor_fd;		/* its pidfd; -EBADF: there is nothing to wait for */
	bool killed;
	uint64_t until_us;	/* clock_us(); how long it may take by itself */
};

/* Sends sig; SIGKILL to all of it when that is 0. Without a monitor it has ended when
 * this returns, all cleaned up. On success *ret goes to end_wait. */
int end_begin(const struct container *c, const struct container_state *st, int sig, uint64_t timeout_us,
	      struct ending *ret, struct error *err);

/* Returns when its monitor has recorded the end; timeout_us after the beginning SIGKILL
 * to all of it. Consumes what *e holds. */
int end_wait(const struct container *c, struct ending *e, struct error *err);

/* "TERM", "SIGTERM", "term", "15"; signal(7). -EINVAL for anything else. */
int end_parse_signal(const char *text, int *ret, struct error *err);
