/*
 * devices.h - which device nodes a container may use
 *
 * A BPF_PROG_TYPE_CGROUP_DEVICE program on the container's cgroup2 directory,
 * on hybrid hosts too: attaching one needs no v2 controller. The rules are the
 * runtime-spec's default devices: null, zero, full, random, urandom, tty,
 * console, ptmx and pts/ (136:*) read, write and mknod; mknod of any node;
 * everything else refused. See bpf(2), config-linux.md "Default Devices",
 * Documentation/admin-guide/cgroup-v2.rst "Device controller".
 *
 * The program lives as long as the cgroup directory: nothing to detach.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/error.h"

#define DEVICE_ANY (-1)

/* BPF_DEVCG_ACC_*; enum because linux/bpf.h is not everybody's */
enum { DEVICE_MKNOD = 1, DEVICE_READ = 2, DEVICE_WRITE = 4 };

struct device_rule {
	bool allow;
	char type;			/* 'c', 'b' or 'a': both */
	int32_t major, minor;		/* DEVICE_ANY: all */
	uint32_t access;
};

/* Of the rules that speak of a device and an access the last one holds; what none
 * speaks of is refused. cgroup_fd is borrowed. Attaching again replaces the program. */
int devices_attach(int cgroup_fd, const struct device_rule *rules, size_t n, struct error *err);
int devices_attach_default(int cgroup_fd, struct error *err);
/* The same, and programs of control groups inside may refuse more. Once only: a second would be added. */
int devices_attach_default_above(int cgroup_fd, struct error *err);
/* The rules, and then the default ones, which every container may rely on. */
int devices_attach_with_default(int cgroup_fd, const struct device_rule *rules, size_t n, struct error *err);
