/*
 * limits.h - resource limits of any process, without privileges
 *
 * prlimit(2) of another uid needs CAP_SYS_RESOURCE; the same numbers stand in
 * /proc/PID/limits (proc_pid_limits(5)). Also compiled into the shim that runs
 * inside CRIU, hence no struct error here.
 */
#pragma once

#include <stdint.h>

#define LIMITS_UNLIMITED UINT64_MAX	/* RLIM_INFINITY of prlimit64 */

/* As the kernel's struct rlimit64. */
struct limits {
	uint64_t soft;
	uint64_t hard;
};

/* Finds one RLIMIT_ in the text of /proc/PID/limits. -EINVAL for an unknown
 * resource, -EPROTO when the text is not as expected. */
int limits_parse(const char *text, unsigned resource, struct limits *ret);
