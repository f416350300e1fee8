/*
 * network_address.h - IPv4 and IPv6 addresses as bytes: parsing and arithmetic
 *
 * No input or output happens here. Private to the network*.c files.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "engine/base/error.h"

struct network_cidr {
	int family;		/* AF_INET or AF_INET6 */
	uint8_t bytes[16];	/* network order; the first 4 for IPv4 */
	unsigned prefix;	/* 0 to 32 or 128; all of them if the text had none */
};

/* 4 or 16. */
static inline unsigned network_cidr_size(const struct network_cidr *cidr)
{
	return cidr->family == AF_INET ? 4 : 16;
}

/* "10.88.0.7/16" or "10.88.0.7"; -EINVAL names the text. */
int network_cidr_parse(const char *text, struct network_cidr *ret, struct error *err);
