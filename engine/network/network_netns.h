/*
 * network_netns.h - a short visit to another network namespace
 *
 *   CLEANUP(network_netns_leavep) int home = -EBADF;
 *   r = network_netns_enter(netns_fd, &home, err);
 *   ... make a socket; it stays in that namespace ...
 *   return network_netns_leave(&home, err);
 *
 * Only the calling thread moves; the clean-up brings it back on every path,
 * network_netns_leave also says so if that failed.
 * setns(2), network_namespaces(7).
 */
#pragma once

#include "engine/base/error.h"

/* *ret_home keeps the way back; -EBADF means: nothing to leave. */
int network_netns_enter(int netns_fd, int *ret_home, struct error *err);

/* Moves into a namespace made for this purpose. */
int network_netns_enter_new(int *ret_home, struct error *err);

/* Goes back and closes *home; with -EBADF it does nothing. */
int network_netns_leave(int *home, struct error *err);
void network_netns_leavep(int *home);

/* A descriptor of the namespace that the thread is in. */
int network_netns_current(int *ret_fd, struct error *err);

/* socket(2) (with SOCK_CLOEXEC) in that namespace; -EBADF: in the caller's. */
int network_netns_socket(int netns_fd, int domain, int type, int protocol, int *ret_fd,
			 struct error *err);
