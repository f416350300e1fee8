/*
 * oci_resources.h - linux.resources into control group files
 *
 * The same document means other files on a pure v2 host than on v1 controllers;
 * what the host's kind has no file for is refused by its name. Values of v1 are
 * converted as runc and crun do (cpu.shares, blkio.weight).
 *
 * config-linux.md "Control groups"; cgroup-v2.rst, cgroup-v1/ of the kernel.
 */
#pragma once

#include "engine/cgroup/cgroup.h"
#include "engine/oci/oci_spec.h"

struct oci_setting {
	const char *field;		/* "memory.limit", for errors */
	struct cgroup_setting setting;
};

struct oci_settings {
	struct oci_setting *items;	/* the arena's */
	size_t n;
};

/* cpu.shares (2 to 262144) as v2's cpu.weight. */
unsigned oci_cpu_weight(int64_t shares);

/* What is to be written on a host of that kind, in order; no system call. */
int oci_resources_plan(struct oci_arena *a, const struct oci_resources *r, bool pure_v2,
		       struct oci_settings *ret, struct error *err);

/* Writes it and sets the device rules (only_given: none when there are none, for update). */
int oci_resources_apply(struct oci_arena *a, const struct cgroup *cg, const struct oci_resources *r,
			bool only_given, struct error *err);
