/*
 * machine.h - what this machine has, for the question whether a container may
 * come here
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "engine/container.h"

/* Names as in the flags line of /proc/cpuinfo. */
struct machine_features {
	char *text;			/* holds the names */
	const char **names;
	size_t n;
};

int machine_cpu_features(struct machine_features *ret, struct error *err);
void machine_features_freep(struct machine_features *f);

/* Resident memory of all processes of a container, shared pages counted in
 * each: an upper bound of what a dump holds. */
int machine_container_memory(const struct container *c, uint64_t *ret, struct error *err);

/* How many more processes and threads there may be: proc_sys_kernel(5),
 * proc_loadavg(5). */
int machine_free_tasks(uint64_t *ret, struct error *err);

/* MemAvailable of /proc/meminfo, and what an unprivileged writer could still
 * put into dirfd's file system. */
int machine_free_memory(uint64_t *ret, struct error *err);
int machine_free_disk(int dirfd, uint64_t *ret, struct error *err);

/* Whether a container with ids of its own can come here: in a user namespace only the device
 * gives a userfaultfd that faults of the kernel go to, too (userfaultfd(2)), with which its memory
 * is filled in. */
int machine_check_inside(struct error *err);
