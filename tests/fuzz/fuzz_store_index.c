/*
 * Input: an index of a page store. What is accepted is memory, within the store
 * and in order, and written out again it is the same bytes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/pages.h"
#include "proto/store_index.h"
#include "tests/fuzz/fuzz.h"

static void check(const struct store_index *index, const uint8_t *data)
{
	uint8_t head[STORE_INDEX_HEAD_BYTES], bytes[STORE_INDEX_EXTENT_BYTES], sum[STORE_INDEX_SUM_BYTES];
	uint64_t end = 0;
	uint32_t pid = 0;

	store_index_encode_head(index->n_slots, index->n_extents, head);
	if (memcmp(head, data, sizeof(head)) != 0)
		abort();
	for (uint64_t i = 0; i < index->n_extents; i++) {
		struct store_extent e = store_index_extent(index, i);

		if (e.pid < pid || (e.pid == pid && e.address < end) || e.n_pages == 0 ||
		    e.slot + e.n_pages > index->n_slots)
			abort();
		pid = e.pid;
		end = e.address + e.n_pages * PAGES_SIZE;
		if (end > PAGES_ADDRESS_END)
			abort();
		store_index_encode_extent(&e, bytes);
	}
	for (uint64_t i = 0; i < index->n_slots; i++)
		store_index_encode_sum(store_index_sum(index, i), sum);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct store_index index;
	struct error err = { 0 };
	int r = store_index_decode(data, size, &index, &err);

	if (r == 0)
		check(&index, data);
	else if (r != -EPROTO || err.code != EPROTO || !err.msg[0])
		abort();
	return 0;
}
