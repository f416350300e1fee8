/*
 * places.h - what a node claims to have on a named network
 *
 * A claim names a container, its addresses and its MAC, and holds the addresses: also
 * when it does not run, and when it has left and its new node has not claimed it yet.
 * Of two claims of an address the newer container's counts, of those of one container
 * that after more moves: so it does not matter in which order nodes are heard.
 *
 * As JSON it is sent to peers and kept as networks/NAME/places-K.json:
 *   { "sequence": 17, "places": [ { "name": "web", "address": "10.70.0.2/16", "address2": "",
 *     "mac": "02:67:0a:46:00:02", "created_us": 1, "moves": 0, "live": true } ] }
 */
#pragma once

#include "engine/network/named_network.h"
#include "engine/spec.h"

#define PLACES_MAX 1200			/* of a node on a network: what a message holds */
#define PLACES_JSON_LIMIT (256 << 10)

struct place {
	char name[SPEC_NAME_MAX + 1];
	char address[2][NETWORK_CIDR_MAX];	/* as in struct network_endpoint; the second may be "" */
	uint8_t mac[6];
	uint64_t created_us;		/* the container's, real time */
	uint32_t moves;
	bool live;			/* else it only holds its addresses */
	size_t member;			/* whose claim it is; not in the JSON */
};

struct places {
	uint64_t sequence;		/* of one node each is higher than the last */
	struct place *list;
	size_t n;
};

void places_free(struct places *p);

/* -EINVAL names what is wrong: it may come from a peer. The network's subnets are what
 * addresses have to be in. *ret and *ret_text are the caller's. */
int places_parse(const char *text, size_t len, const struct named_network *n, struct places *ret, struct error *err);
int places_format(const struct places *p, char **ret_text, struct error *err);

/* A copy of place, at the end. -ENOMEM. */
int places_add(struct places *p, const struct place *place, struct error *err);

/* Of all claims those that count, by address; each has its member. ret is the caller's. */
int places_merge(const struct places *claims, size_t n_claims, struct places *ret, struct error *err);

/* The container with this address, also "10.70.0.2" without prefix; NULL: nobody. */
const struct place *places_find(const struct places *p, const char *address);

/* True when a is a later claim of a's and b's container, or of a later container. */
bool place_is_newer(const struct place *a, const struct place *b);
