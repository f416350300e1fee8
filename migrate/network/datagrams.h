/*
 * datagrams.h - UDP datagrams that have come and nobody has received
 *
 * CRIU leaves them out. So they are looked at where they wait, without taking them
 * (MSG_PEEK, SO_PEEK_OFF of socket(7)), kept as IP packets in records of
 * proto/held.h, and sent once more, inside the target's network namespace, to the
 * restored sockets (IP_HDRINCL of raw(7)), before anything that comes later. The
 * sender's and the receiver's address and port stay; time stamps and TTL do not.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "engine/base/error.h"

#define DATAGRAMS_BYTES_MAX (4u << 20)	/* of one container */

struct datagrams {
	uint8_t *data;
	size_t len, room;
	uint64_t lost;			/* more than fits */
};

void datagrams_free(struct datagrams *d);

/* Adds what waits in the socket, if it is one of UDP. The container stands still. */
int datagrams_look(struct datagrams *d, int socket_fd, struct error *err);

/* Sends those of records, which may come from a peer, in order. A record that is no UDP packet is
 * -EPROTO; what the kernel refuses is counted in *ret_lost. */
int datagrams_deliver(int netns_fd, const void *records, size_t len, uint64_t *ret_lost, struct error *err);
