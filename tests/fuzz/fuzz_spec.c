/*
 * Input: a container's configuration. What is accepted says, written out and
 * read again, the same; what is refused says why.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/spec.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(spec_freep) struct spec *first = NULL;
	CLEANUP(spec_freep) struct spec *second = NULL;
	CLEANUP(freep) char *a = NULL;
	CLEANUP(freep) char *b = NULL;
	struct error err = { 0 };
	int r = spec_from_json((const char *)data, size, &first, &err);

	if (r < 0) {
		if (first || err.code != -r || !*err.msg)
			abort();
		return 0;
	}
	if (!first->name || !first->args || !first->args[0] || first->cwd[0] != '/' ||
	    spec_check_name(first->name, &err) < 0)
		abort();
	if (spec_to_json(first, &a, &err) < 0 || spec_from_json(a, strlen(a), &second, &err) < 0 ||
	    spec_to_json(second, &b, &err) < 0 || strcmp(a, b) != 0) {
		(void)fprintf(stderr, "%s\n%s\n%s\n", err.msg, a ? a : "", b ? b : "");
		abort();
	}
	return 0;
}
