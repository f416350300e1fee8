/*
 * capability.h - capability sets as bit masks
 *
 * Bit n of a mask is capability n of capabilities(7). Names are the
 * runtime-spec's ("CAP_CHOWN").
 */
#pragma once

#include <stdint.h>

#include "engine/base/error.h"

/* The set that podman gives by default: CHOWN DAC_OVERRIDE FOWNER FSETID KILL
 * NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID SYS_CHROOT. */
uint64_t capability_default_mask(void);

/* That and what an engine needs to run containers in a container: SYS_ADMIN NET_ADMIN NET_RAW
 * MKNOD SYS_PTRACE. Outside of a user namespace that is no boundary: as good as root of the machine. */
uint64_t capability_nested_mask(void);

/* Name to number and back; -EINVAL for an unknown name, NULL for an unknown
 * number. Names are accepted with or without "CAP_", in either case. */
int capability_from_name(const char *name, struct error *err);
const char *capability_name(unsigned n);

/* The five sets of a process, as runtime-spec's process.capabilities has them. */
struct capability_sets {
	uint64_t bounding, effective, permitted, inheritable, ambient;
};

/* The sets of a container that was given a mask: permitted and effective are the mask for root,
 * and for other users nothing (as podman does without --cap-add); inheritable and ambient are
 * always empty (an inheritable set hangs a CRIU restore). */
struct capability_sets capability_sets_for(uint64_t mask, uint32_t uid);

/* For a child between clone and exec, async-signal-safe, returning 0 or a
 * negative errno. First capability_limit_bounding (as root), then change of
 * user with PR_SET_KEEPCAPS as needed, then capability_apply, which sets all
 * the others. */
int capability_limit_bounding(uint64_t mask);
int capability_apply(const struct capability_sets *sets);
