/*
 * port.h - published ports: what reaches a container from outside its network
 *
 * Text: [ADDRESS:]PORT:CONTAINER-PORT[/tcp|udp|sctp], as docker-run(1) and
 * podman-run(1) have it, an IPv6 address in brackets. No input or output happens here.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/error.h"

#define PORT_TEXT_MAX (INET6_ADDRSTRLEN + 24)
#define PORTS_MAX 32

struct port {
	char address[INET6_ADDRSTRLEN];	/* of the node; empty: any */
	uint16_t node, container;
	uint8_t protocol;		/* IPPROTO_TCP, IPPROTO_UDP or IPPROTO_SCTP */
};

/* Text to port and back. -EINVAL names the text. */
int port_parse(const char *text, struct port *ret, struct error *err);
void port_format(const struct port *port, char ret[PORT_TEXT_MAX]);
/* "tcp", "udp" or "sctp". */
const char *port_protocol(const struct port *port);

/* Comma-separated. -E2BIG for more than PORTS_MAX, -EEXIST when two want the same. */
int port_list_parse(const char *text, struct port ret[PORTS_MAX], size_t *ret_n, struct error *err);
/* Adds one to a list, which must have room for PORTS_MAX. */
int port_list_add(struct port *ports, size_t *n, const char *text, struct error *err);
#define PORT_LIST_TEXT_MAX (PORTS_MAX * (PORT_TEXT_MAX + 1))
void port_list_format(const struct port *ports, size_t n, char ret[PORT_LIST_TEXT_MAX]);
