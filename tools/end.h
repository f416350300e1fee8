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

/* sig first (0: none), after timeout_us SIGKILL to all of it; returns when its
 * monitor has recorded the end, or, without a monitor, after cleaning here. */
int end_container(const struct container *c, const struct container_state *st, int sig,
		  uint64_t timeout_us, struct error *err);

/* "TERM", "SIGTERM", "term", "15"; signal(7). -EINVAL for anything else. */
int end_parse_signal(const char *text, int *ret, struct error *err);
