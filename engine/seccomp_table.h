/*
 * seccomp_table.h - which system calls the default filter lets through
 *
 * A group's calls are allowed when the container has one of the group's
 * capabilities, and fail with EPERM otherwise. A call that is in no group
 * fails with ENOSYS. Names that a machine's libseccomp does not know are left
 * out, and so end as ENOSYS too.
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
