/* Input: an mm image. What it tells must be mappings in ascending order, none over
 * another. */
#include <stdlib.h>

#include "criu-glue/mappings.h"
#include "engine/base/cleanup.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(freep) struct pagemap_range *locked = NULL;
	struct error err;
	size_t n = 0;

	if (mappings_locked(data, size, &locked, &n, &err) < 0)
		return 0;
	for (size_t i = 0; i < n; i++) {
		if (locked[i].n_pages == 0)
			abort();
		if (i > 0 && locked[i].address < locked[i - 1].address + locked[i - 1].n_pages * 4096)
			abort();
	}
	return 0;
}
