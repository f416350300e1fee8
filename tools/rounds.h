/*
 * rounds.h - the options of what copies memory in rounds, and its cancelling
 */
#pragma once

#include <signal.h>
#include <stdint.h>

#include "migrate/memory/policy.h"
#include "migrate/memory/tracker.h"

struct rounds_options {
	uint64_t max_downtime_us, max_time_us;
	uint32_t max_rounds, throttle_pct;
	const char *on_diverge, *tracker;
	uint64_t bwlimit;
};

#define ROUNDS_DEFAULTS { .max_downtime_us = POLICY_DOWNTIME_US, .max_rounds = 30 }

/* -EINVAL names the option that is wrong. */
int rounds_parse(const struct rounds_options *o, struct policy_limits *ret_policy,
		 enum tracker_kind *ret_tracker, struct error *err);

/* From now on SIGINT, SIGTERM and SIGHUP end waiting calls and set what is
 * pointed at, once. */
const volatile sig_atomic_t *rounds_catch_signals(void);
