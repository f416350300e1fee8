/*
 * socket_walk.h - each socket that a container's processes have, once
 *
 * By pidfd_getfd(2), which leaves the processes alone: what the visitor does to
 * the socket it does to theirs.
 */
#pragma once

#include "engine/container.h"

/* One of the places where the socket is. */
struct socket_place {
	pid_t pid;			/* as the container sees it */
	int fd;
};

/* socket_fd is borrowed. A negative return ends the walk. */
typedef int socket_visit(void *ctx, const struct socket_place *place, int socket_fd, struct error *err);

/* The container stands still. */
int socket_walk(const struct container *c, socket_visit *visit, void *ctx, struct error *err);

/* The process that the container sees as pid; -ESRCH. */
int socket_find_pid(const struct container *c, pid_t pid, pid_t *ret, struct error *err);

/* getsockopt(2) of an int; -1 when there is none. */
int socket_option(int socket_fd, int level, int name);
