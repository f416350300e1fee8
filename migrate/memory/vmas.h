/*
 * vmas.h - the mappings of a process, and which of them the page stream carries
 *
 * /proc/PID/maps (proc_pid_maps(5)) read a page at a time. It is not one
 * snapshot: each line is true at the moment when it is read.
 *
 *   struct maps_reader reader = { .fd = fd };
 *   while ((r = maps_next(&reader, &line, err)) > 0)
 *           ...
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/base/error.h"

/* One line. name is cut off; mappings of files have a name that begins with /
 * and an inode. */
struct maps_line {
	uint64_t start, end, inode;
	dev_t dev;
	char perms[4];		/* r w x p, not terminated */
	char name[24];
};

struct maps_reader {
	int fd;			/* /proc/PID/maps at its beginning, borrowed */
	size_t at, len;
	char text[4096];
};

/* 1 with a line, 0 at the end. Doesn't allocate. */
int maps_next(struct maps_reader *reader, struct maps_line *ret, struct error *err);

struct vma {
	uint64_t start, end;
};

/* Carried mappings in address order. */
struct vmas {
	struct vma *at;
	size_t n, size;
};

/* Replaces the list by what dir_fd (/proc/PID, borrowed) says now. A process that is
 * gone has no mappings. */
int vmas_read(struct vmas *vmas, int dir_fd, struct error *err);
void vmas_free(struct vmas *vmas);
