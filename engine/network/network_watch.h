/*
 * network_watch.h - waiting for what the kernel announces over rtnetlink
 *
 * Open the watch, cause the change, then wait: nothing is missed in between.
 * Private to the network*.c files. rtnetlink(7).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/error.h"

struct nlmsghdr;

/* Called first with NULL, because it may have happened already, and when
 * messages were lost; then with each message. True ends the wait. */
typedef bool network_watch_done(const struct nlmsghdr *message, const void *data);

/* groups: RTMGRP_... bits; netns_fd is borrowed, -EBADF: the caller's. */
int network_watch_open(int netns_fd, uint32_t groups, int *ret_fd, struct error *err);

/* Returns 0 when done says so, 1 when wait_us passed before that. */
int network_watch_until(int fd, uint64_t wait_us, network_watch_done *done, const void *data,
			struct error *err);
