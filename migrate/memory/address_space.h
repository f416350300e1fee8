/*
 * address_space.h - whose memory it is: one program in one process
 *
 * A process keeps its pid when it executes another program, and a pid is given
 * again when its process has ended; in both cases all that was known of its
 * memory is void. An identity changes in both: it is the process's start time
 * with where the kernel put its program, stack and heap (proc_pid_stat(5)).
 *
 *   r = address_space_open(pid, &as, err);	1: there is one
 *   ... work on as.dir_fd ...
 *   r = address_space_is_same(&as, err);	1: all of it was that one's
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "engine/base/error.h"

enum { IDENTITY_FIELDS = 4 };

struct identity {
	uint64_t field[IDENTITY_FIELDS];
};

struct address_space {
	pid_t pid, ns_pid;	/* here, and in its innermost pid namespace */
	struct identity identity;
	int dir_fd;		/* /proc/PID, owned */
};

#define ADDRESS_SPACE_EMPTY { .dir_fd = -EBADF }

/* 1, or 0 when the process is gone, a zombie or without memory of its own. */
int address_space_open(pid_t pid, struct address_space *ret, struct error *err);
void address_space_closep(struct address_space *as);

/* 1 when the process still has this address space, else 0. */
int address_space_is_same(const struct address_space *as, struct error *err);

/* Stack pointers of all threads, which must be stopped or frozen (-EBUSY when
 * one isn't), in ascending order. The caller frees. */
int address_space_stacks(const struct address_space *as, uint64_t **ret, size_t *ret_n,
			 struct error *err);
