/*
 * oci_scope.h - a container's control group as systemd makes it (--systemd-cgroup)
 *
 * linux.cgroupsPath is then SLICE:PREFIX:NAME, as runc and crun read it: the scope
 * PREFIX-NAME.scope in SLICE (empty: system.slice). systemd wants a process in it
 * from the beginning: one of ours that does nothing, until the container's first one is
 * there. What systemd has properties for is told to it, and everything is written to
 * the files as without it.
 *
 * Annotations org.systemd.property.NAME are further properties, their values in the text
 * form of GVariant: 'text', true, -1, uint64 5 and the like, but no arrays. NAME that ends
 * with Sec is seconds, and becomes NAME with USec, as with runc.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "engine/cgroup/systemd.h"
#include "engine/oci/oci_spec.h"

/* *ret_slice and *ret_unit are the caller's. -EINVAL names what is wrong. */
int oci_scope_name(const char *cgroups_path, const char *id, char **ret_slice, char **ret_unit, struct error *err);

/* What of the resources (may be NULL) systemd has properties for on a host of that kind; the arena's. */
int oci_scope_limits(struct oci_arena *a, const struct oci_resources *r, bool pure_v2,
		     struct systemd_properties *ret, struct error *err);

/* And the annotations; the arena's. */
int oci_scope_properties(const struct oci_spec *s, bool pure_v2, struct systemd_properties *ret, struct error *err);

/* Starts it with a process of ours, which ends with the caller, or by oci_scope_leave. *ret_parent
 * and *ret_name (the caller's to free) are the directory's, below the root of each hierarchy. */
int oci_scope_start(const struct oci_spec *s, const char *id, const char *slice, const char *unit,
		    pid_t *ret_placeholder, char **ret_parent, char **ret_name, struct error *err);
/* 0 is none. */
void oci_scope_leave(pid_t *placeholder);
/* Kills what lives there; a scope of that name that is not this container's stays. */
int oci_scope_remove(const char *id, const char *unit, struct error *err);
