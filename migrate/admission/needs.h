/*
 * needs.h - what the node that a container goes to must be able to do
 *
 * A line of the offer each, NAME or NAME=VALUE, made at the source of what the
 * container uses and tried at the target:
 *
 *   userfaultfd         its memory arrives in front of it, page by page
 *   time-namespace      its clocks go on from where they stood
 *   cgroup-namespace    it sees its own control groups only
 *   overlay             its root file system
 *   rlimit-NAME=N       a process of it has this hard limit, or "unlimited";
 *                       names as of prlimit(1)
 */
#pragma once

#include "engine/container.h"
#include "migrate/admission/reasons.h"

struct needs {
	const char *list[WIRE_NEEDS_MAX];	/* owned */
	size_t n;
};

/* Of a container with these processes (host's pids); those that have just ended need nothing. */
int needs_collect(const pid_t *pids, size_t n_pids, struct needs *ret, struct error *err);
void needs_free(struct needs *needs);

/* Adds a reason for each that can't be met here, and for each that is unknown. */
void needs_check(const char *const *list, size_t n, struct reasons *reasons);
