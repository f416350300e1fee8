/*
 * seccomp_table.h - which system calls the default filter lets through
 *
 * A group's calls are allowed when the container has one of the group's
 * capabilities, and fail with EPERM otherwise. A call that is in no group
 * fails with ENOSYS. Names that a machine's libseccomp does not know are left
 * out, and so end as ENOSYS too.
 *
 * Compared with podman 4.3's seccomp.json, whose table is the other way round about the
 * kernel's own checks (allowed, and left to them):
 *   - mounting, setns, reboot and syslog need their capability here, too, so that a user
 *     namespace made inside does not open them;
 *   - key rings and memfd_secret are refused: the first are the machine's, neither moves;
 *   - calls that are newer than its list, and like their elders harmless, are allowed:
 *     cachestat, fchmodat2, futex_*, *xattrat, map_shadow_stack, mseal, io_pgetevents.
 * Capabilities by default are the same.
 */
#pragma once

#include <stdint.h>

#define SECCOMP_ALWAYS UINT64_MAX
#define SECCOMP_NEVER UINT64_C(0)

struct seccomp_group {
	uint64_t capabilities; /* any of them; SECCOMP_ALWAYS, SECCOMP_NEVER */
	const char *names;     /* divided by blanks */
};

/* Ends with a group whose names are NULL. A call is named once. */
extern const struct seccomp_group seccomp_groups[];
