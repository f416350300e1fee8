/*
 * host.h - HOST[:PORT] as people write it
 */
#pragma once

#include "engine/base/error.h"

/* "node-b", "10.0.0.2:4967", "[fe80::1]:4967", "fe80::1", ":4967" (any host:
 * ret_host is empty). The port defaults to wire.h's. */
int host_split(const char *text, char ret_host[256], char ret_port[16], struct error *err);

/* Sets the error for a port that getaddrinfo(3) doesn't know (EAI_SERVICE). */
int host_wrong_port(const char *port, struct error *err);
