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

#include "engine/base/error.h"

/* cgroup_fd is borrowed. Attaching twice leaves one program. */
int devices_attach_default(int cgroup_fd, struct error *err);
