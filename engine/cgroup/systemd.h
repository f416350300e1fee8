/*
 * systemd.h - control groups that systemd makes for us: transient scopes
 *
 * On a host whose control groups systemd manages, others ask it for a place of
 * their own, and say what may be used there, so that its tools show it and it
 * doesn't write over it. A scope has the processes that it was started with; what
 * is below its directory is ours (Delegate=), and when the last process has ended
 * systemd takes it away by itself.
 *
 * Spoken over the system bus, or else over the socket that systemd has for root.
 * libsystemd is loaded when it is needed. Errors: ELIBACC without libsystemd;
 * EHOSTUNREACH when no systemd answers; else what systemd says, with EREMOTEIO.
 *
 * Sources: org.freedesktop.systemd1(5), systemd.scope(5), systemd.resource-control(5),
 * systemd's CGROUP_DELEGATION.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "engine/base/error.h"

#define SYSTEMD_UNIT_MAX 255

/* A property of a unit; type as D-Bus writes it: s(tring), b(oolean), i(nt32), u(int32), (int64) x,
 * (uint64) t, or y for len bytes at text. */
struct systemd_property {
	const char *name;
	char type;
	uint64_t number;
	const char *text;
	size_t len;
};

struct systemd_properties {
	struct systemd_property *items;
	size_t n;
};

/* Starts the scope with the process pid in it, below the slice, and waits until it is there.
 * -EEXIST when there is one of that name. */
int systemd_scope_start(const char *unit, const char *slice, const char *description, pid_t pid,
			const struct systemd_properties *properties, struct error *err);

/* Until the scope ends or the machine does. */
int systemd_scope_set(const char *unit, const struct systemd_properties *properties, struct error *err);

/* Kills what is in it, and forgets it. One that is not there, or that was started with another
 * description, is no error. */
int systemd_scope_remove(const char *unit, const char *description, struct error *err);
