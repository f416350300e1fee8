/*
 * breakpoints.h - hardware breakpoints that don't keep anybody waiting
 *
 * CRIU stops tasks by them. The first one on a machine makes the kernel switch its
 * perf hooks on, which waits for all processors: 7 to 15 ms, while the tasks stand
 * still; a second after the last one the hooks are off again. As long as somebody
 * has an event of a task they stay on. perf_event_open(2), account_event in
 * kernel/events/core.c of Linux.
 *
 *	CLEANUP(fd_closep) int ready = breakpoints_keep_ready();
 *	... stop tasks by breakpoints ...
 */
#pragma once

/* An event that counts nothing, of the calling thread; a descriptor. -EBADF where
 * it can't be had: then the first breakpoint waits. */
int breakpoints_keep_ready(void);
