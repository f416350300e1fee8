/*
 * Input: a byte with the number of lazy ranges, for each range two bytes of
 * page number and one of pages, then an image. What comes out of a merge must
 * be an image that a merge with nothing leaves as it is.
 */
#include <stdlib.h>
#include <string.h>

#include "criu-glue/pagemap.h"
#include "engine/base/cleanup.h"
#include "tests/fuzz/fuzz.h"

#define RANGE_BYTES 3u
#define RANGES_MAX 255u

static void merge_again(const void *image, size_t len)
{
	CLEANUP(freep) void *again = NULL;
	struct error err;
	size_t again_len;

	if (pagemap_merge(image, len, NULL, 0, &again, &again_len, &err) < 0) {
		/* lazy entries are no pages that CRIU dumped */
		if (!strstr(err.msg, "nowhere"))
			abort();
		return;
	}
	if (again_len != len || memcmp(again, image, len) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pagemap_range ranges[RANGES_MAX];
	CLEANUP(freep) void *merged = NULL;
	struct error err = { 0 };
	size_t n, merged_len;
	int r;

	if (size == 0)
		return 0;
	n = *data++;
	size--;
	for (size_t i = 0; i < n; i++, data += RANGE_BYTES, size -= RANGE_BYTES) {
		if (size < RANGE_BYTES)
			return 0;
		ranges[i].address = (uint64_t)(data[0] | data[1] << 8) * 4096;
		ranges[i].n_pages = data[2];
	}
	r = pagemap_merge(data, size, ranges, n, &merged, &merged_len, &err);
	if (r < 0 && (r != -EPROTO || err.code != EPROTO || !err.msg[0] || merged))
		abort();
	if (r == 0)
		merge_again(merged, merged_len);
	return 0;
}
