/*
 * sockets.h - what CRIU leaves out of a container's sockets
 *
 * Options and groups (socket_options.h) go as SOCKETS_JSON in the folder meta,
 * datagrams that nobody has received (datagrams.h) as SOCKETS_DATAGRAMS.
 */
#pragma once

#include "engine/container.h"

#define SOCKETS_JSON "sockets.json"
#define SOCKETS_DATAGRAMS "datagrams"

/* Source: of c, which stands still, pid being its first process. *ret_lost: datagrams beyond
 * DATAGRAMS_BYTES_MAX. */
int sockets_save(const struct container *c, pid_t pid, int meta_fd, uint64_t *ret_lost, struct error *err);

/* UDP sockets that keep more than usual until the container runs: all that came for it while it did
 * not comes at once. */
#define SOCKETS_WIDE_MAX 64
struct sockets_wide {
	struct socket_wide {
		int fd, receive_buffer;
	} list[SOCKETS_WIDE_MAX];
	size_t n;
};

/* Target: to the restored sockets of c, which stands still. What there is of it was a peer's. Those of
 * UDP are wide until sockets_narrow, also after a failure. */
int sockets_restore(const struct container *c, int netns_fd, int meta_fd, struct sockets_wide *wide,
		    struct error *err);

/* When the programs have read most of it; waits half a second for that at most. */
void sockets_narrow(struct sockets_wide *wide);

/* Takes away what sockets_save has written, if it has. */
void sockets_forget(int meta_fd);
