/*
 * restart.h - whether a container that has ended begins again: pure arithmetic
 *
 * The monitor keeps the policy, so it holds with no daemon, and a container that has
 * moved is started again where it is then. What a person has ended (stop, kill) stays
 * so. `godwit start --boot` starts after a reboot what the policies want.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/error.h"

enum restart_kind {
	RESTART_NO,
	RESTART_ON_FAILURE,	/* exit code other than 0 */
	RESTART_ALWAYS,
	RESTART_UNLESS_STOPPED,	/* the same, but what a person ended stays so after a reboot, too */
};

struct restart_policy {
	enum restart_kind kind;
	uint32_t max;		/* tries in a row, of on-failure; 0: no end */
};

#define RESTART_TEXT_MAX 32

/* "no", "on-failure", "on-failure:5", "always", "unless-stopped". */
int restart_parse(const char *text, struct restart_policy *ret, struct error *err);
char *restart_format(const struct restart_policy *p, char buf[RESTART_TEXT_MAX]);

/* tries: how often in a row it was started again and ended within RESTART_STEADY_US. */
bool restart_wanted(const struct restart_policy *p, int exit_code, uint32_t tries);

/* After a life as long as this the next failure counts as the first one. */
#define RESTART_STEADY_US 10000000

/* Before the try number tries + 1: 100 ms, then twice as long each time, at most a minute. */
uint64_t restart_delay_us(uint32_t tries);

/* Whether it is to run when the machine has booted. stopped: by a person. */
bool restart_at_boot(const struct restart_policy *p, bool stopped);
