/*
 * Input: what a node claims to have on a network. What is accepted is within the network's
 * subnets, names each address once when merged, and says, written out and read again, the
 * same; what is refused says why.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/network/places.h"
#include "tests/fuzz/fuzz.h"

static const struct named_network network = { .name = "lan", .subnets = { "10.70.0.0/16", "fd00:70::/64" } };

static void check_merged(const struct places *p)
{
	CLEANUP(places_free) struct places all = { 0 };
	struct places twice[2] = { *p, *p };
	struct error err;

	if (places_merge(twice, 2, &all, &err) < 0 || all.n > p->n)
		abort();
	for (size_t i = 1; i < all.n; i++)
		if (strcmp(all.list[i - 1].address[0], all.list[i].address[0]) >= 0)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(places_free) struct places first = { 0 };
	CLEANUP(places_free) struct places second = { 0 };
	CLEANUP(freep) char *a = NULL;
	CLEANUP(freep) char *b = NULL;
	struct error err = { 0 };
	int r = places_parse((const char *)data, size, &network, &first, &err);

	if (r < 0) {
		if (first.list || err.code != -r || !*err.msg)
			abort();
		return 0;
	}
	check_merged(&first);
	if (places_format(&first, &a, &err) < 0 || places_parse(a, strlen(a), &network, &second, &err) < 0 ||
	    places_format(&second, &b, &err) < 0 || strcmp(a, b) != 0) {
		(void)fprintf(stderr, "%s\n%s\n%s\n", err.msg, a ? a : "", b ? b : "");
		abort();
	}
	return 0;
}
