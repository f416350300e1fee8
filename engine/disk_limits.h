/*
 * disk_limits.h - how fast a container may read and write which disks
 *
 * Disks go by the path of their block device: numbers differ from node to node,
 * so each node looks the path up when it sets the limits. The kernel counts what
 * reaches the disk: on v1 that is direct and synchronous I/O, on v2 also what the
 * page cache writes later.
 *
 *	struct disk_limits l = { 0 };
 *	r = disk_limits_parse(&l, DISK_WRITE_BPS, "/dev/vda:2m", err);
 *
 * Sources: cgroup-v1/blkio-controller.rst, cgroup-v2.rst "IO Interface Files".
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/error.h"

#define DISK_LIMITS_MAX 16
#define DISK_PATH_SIZE 128
#define DISK_WEIGHT_MIN 10
#define DISK_WEIGHT_MAX 1000
#define DISK_RATE_LIFTED UINT64_MAX	/* take off what may be in force; only on its way to the kernel */

enum disk_rate {
	DISK_READ_BPS,			/* bytes a second */
	DISK_WRITE_BPS,
	DISK_READ_IOPS,			/* operations a second */
	DISK_WRITE_IOPS,
	DISK_RATES,
};

struct disk_limit {
	char path[DISK_PATH_SIZE];	/* of a block device, absolute */
	uint64_t rates[DISK_RATES];	/* 0: not limited */
};

struct disk_limits {
	uint32_t weight;		/* share beside other containers, 10 to 1000; 0: not set */
	uint32_t n;
	struct disk_limit items[DISK_LIMITS_MAX];
};

struct cgroup_setting;

/* What OCI calls a rate: "throttleReadBpsDevice" and so on. */
const char *disk_rate_name(enum disk_rate which);

/* Sets one rate, of a new entry when the path has none yet. -EINVAL for a path that is not
 * absolute or too long, -E2BIG when there are too many. */
int disk_limits_set(struct disk_limits *l, enum disk_rate which, const char *path, uint64_t rate, struct error *err);

/* "PATH:RATE", the rate like 2m for bytes and a whole number for operations; 0 becomes DISK_RATE_LIFTED. */
int disk_limits_parse(struct disk_limits *l, enum disk_rate which, const char *text, struct error *err);

/* Adds to l what takes off, besides, all that other limits and l does not. */
void disk_limits_lift(struct disk_limits *l, const struct disk_limits *other);

/* Forgets what is lifted, and entries that then limit nothing. */
void disk_limits_settle(struct disk_limits *l);

/* The device number that cgroups know a path by. -ENOENT when nothing is there, -ENOTBLK when it
 * is no block device, or a partition: whole disks are limited. */
int disk_find(const char *path, uint32_t *ret_major, uint32_t *ret_minor, struct error *err);

/* What is to be written for a rate (0: none any more). */
void disk_rate_setting(bool pure_v2, enum disk_rate which, int64_t major, int64_t minor, uint64_t rate,
		       struct cgroup_setting *ret);

/* The same for the weight of all disks. Of the two schedulers that can weigh, a kernel has one
 * or the other, with a file each. */
void disk_weight_setting(bool pure_v2, uint32_t weight, struct cgroup_setting *ret);
