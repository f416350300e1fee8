/*
 * socket_options.h - what is set on a socket and CRIU does not carry
 *
 * Options of TCP, UDP, IPv4 and IPv6 that differ from those of a new socket, and
 * memberships of groups (ip(7), ipv6(7), tcp(7)), as JSON:
 *
 *	{"options": {"TCP_USER_TIMEOUT": 5000}, "groups": ["2 239.1.2.3"]}
 *
 * A group has the number of its interface before it, which is the same on every
 * node. A membership for certain senders only becomes one for all.
 */
#pragma once

#include <jansson.h>
#include <sys/types.h>

#include "engine/base/error.h"

/* New sockets to compare with, and the groups of a network namespace. */
struct socket_defaults {
	int new[2][2];			/* IPv4, IPv6; stream, datagram */
	char (*groups)[64];		/* as in JSON */
	size_t n_groups;
};

#define SOCKET_DEFAULTS_EMPTY { .new = { { -EBADF, -EBADF }, { -EBADF, -EBADF } } }

int socket_defaults_open(pid_t pid, struct socket_defaults *ret, struct error *err);
void socket_defaults_closep(struct socket_defaults *d);

/* NULL when nothing is to be kept; the caller's. */
json_t *socket_options_read(const struct socket_defaults *d, int socket_fd);

/* What a peer has written; -EPROTO when it makes no sense. */
int socket_options_set(const json_t *kept, int socket_fd, struct error *err);
