/*
 * health.h - whether a container is well: a command in it, run again and again
 *
 * What the command's results mean is pure arithmetic (health_note). The monitor runs
 * one check at a time in a process of its own (health_start), which enters the
 * container as exec does (exec.h): a container that hangs never holds up its monitor.
 * A check leaves the container whole or is killed with all that it started in its
 * session. Nothing of it may be there when the container is frozen to be moved, so the
 * monitor ends a check before.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/base/error.h"

struct container;

enum health_status {
	HEALTH_NONE,		/* no command */
	HEALTH_STARTING,	/* no result that counts yet */
	HEALTH_HEALTHY,
	HEALTH_UNHEALTHY,	/* failed as often in a row as was allowed */
	HEALTH_STATUS_MAX_,
};

struct health_check {
	char *command;		/* for sh -c; NULL: none */
	uint64_t interval_us, timeout_us;
	uint64_t start_period_us;	/* failures before this do not count, unless it was well once */
	uint32_t retries;
};

#define HEALTH_INTERVAL_US 30000000
#define HEALTH_TIMEOUT_US 30000000
#define HEALTH_RETRIES 3

struct health {
	enum health_status status;
	uint32_t failures;	/* in a row */
};

const char *health_name(enum health_status s);
enum health_status health_from_name(const char *name);	/* HEALTH_NONE: no such */

/* One result, age_us after the container was started. True: the status has changed. */
bool health_note(struct health *h, const struct health_check *check, bool good, uint64_t age_us);

/* Starts a check; *ret_pid is a child of this process, which exits with 0 when the
 * container is well, and always some time after timeout_us. */
int health_start(const struct container *c, pid_t *ret_pid, struct error *err);

/* Ends one that is under way, with the command, and waits until both have gone;
 * -ETIMEDOUT when they do not. */
int health_end(pid_t pid, struct error *err);

/* The name of the process of a check, which is the parent of its command. */
#define HEALTH_PROCESS "godwit-health"
