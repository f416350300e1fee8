/*
 * Input: the record of a named network. What is accepted gives out addresses of its own
 * part only, and says, written out and read again, the same; what is refused says why.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/network/named_network.h"
#include "tests/fuzz/fuzz.h"

static void check_ranges(const struct named_network *n)
{
	char range[NETWORK_CIDR_MAX], gateway[NETWORK_CIDR_MAX], inside[NETWORK_CIDR_MAX];
	struct error err;

	for (size_t i = 0; i < 2 && n->subnets[i][0]; i++)
		if (named_network_range(n, i, range, &err) < 0 || named_network_gateway(n, i, gateway, &err) < 0 ||
		    network_address_in(n->subnets[i], gateway, inside, &err) < 0 || strcmp(gateway, inside) != 0)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct named_network first, second;
	CLEANUP(freep) char *a = NULL;
	CLEANUP(freep) char *b = NULL;
	struct error err = { 0 };
	int r = named_network_parse((const char *)data, size, &first, &err);

	if (r < 0) {
		if (err.code != -r || !*err.msg)
			abort();
		return 0;
	}
	check_ranges(&first);
	if (named_network_format(&first, &a, &err) < 0 || named_network_parse(a, strlen(a), &second, &err) < 0 ||
	    !named_network_same(&first, &second) || named_network_format(&second, &b, &err) < 0 || strcmp(a, b) != 0) {
		(void)fprintf(stderr, "%s\n%s\n%s\n", err.msg, a ? a : "", b ? b : "");
		abort();
	}
	return 0;
}
