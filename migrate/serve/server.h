/*
 * server.h - a node's daemon: accepts connections, a process for each
 *
 * Who connects proves first that it belongs to the cluster (migrate/tls), or has to be
 * gone after CHANNEL_GREET_US.
 *
 * The daemon holds nothing that a container needs: its death, and that of its
 * children, never touches a running container.
 */
#pragma once

#include "engine/node.h"

/* When there are so many, the oldest whose peer has not offered anything is closed
 * for the next one. Of those who have, ADMISSION_AT_ONCE_MAX at most are accepted,
 * so there is always room for who asks. */
#define SERVER_CONNECTIONS_MAX 64

struct server;

struct server_options {
	const char *listen;		/* ADDR[:PORT], "[::]:4967", ":4967" */
	void (*log)(void *ctx, const char *line);
	void *ctx;
};

/* Listens; ret_address ("10.0.0.1:4967") is what it got. */
int server_open(const struct node *node, const struct server_options *options,
		struct server **ret, char ret_address[128], struct error *err);

/* Until SIGTERM or SIGINT. Migrations under way are then left to finish. */
int server_run(struct server *server, struct error *err);
void server_free(struct server *server);
DEFINE_CLEANUP(struct server *, server_free)
