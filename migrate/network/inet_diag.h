/*
 * inet_diag.h - the TCP and UDP sockets of a network namespace
 *
 * sock_diag(7), linux/inet_diag.h: what ss(8) reads, without opening anything.
 */
#pragma once

#include <stdint.h>
#include <linux/inet_diag.h>
#include <sys/types.h>

#include "engine/base/error.h"

#define INET_DIAG_ALL UINT32_MAX

/* In the network namespace of that process; the caller closes it. */
int inet_diag_open(pid_t pid, int *ret_fd, struct error *err);

typedef void inet_diag_visit(void *ctx, const struct inet_diag_msg *m);

/* All sockets of IPPROTO_TCP or IPPROTO_UDP, IPv4 and IPv6, in one of the states (bits by
 * number, tcp_states.h). Of a listening one idiag_rqueue is how many connections wait to be accepted. */
int inet_diag_each(int diag_fd, int protocol, uint32_t states, inet_diag_visit *visit, void *ctx,
		   struct error *err);
