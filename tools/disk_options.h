/*
 * disk_options.h - the options of `run` and `update` that limit disk I/O
 */
#pragma once

#include "engine/disk_limits.h"
#include "tools/command.h"

struct disk_options {
	struct option_list rates[DISK_RATES];
	uint32_t weight;		/* 0: not given */
};

/* Puts what was given over what l holds; rates of 0 become DISK_RATE_LIFTED. */
int disk_options_take(const struct disk_options *o, struct disk_limits *l, struct error *err);
