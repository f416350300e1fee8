#include <endian.h>
#include <errno.h>
#include <string.h>

#include "proto/pages.h"
#include "proto/store_index.h"

struct head {
	uint32_t magic, version, page_bytes, zero;
	uint64_t n_slots, n_extents;
};
_Static_assert(sizeof(struct head) == STORE_INDEX_HEAD_BYTES, "no padding");

struct extent {
	uint32_t pid, zero;
	uint64_t address, n_pages, slot;
};
_Static_assert(sizeof(struct extent) == STORE_INDEX_EXTENT_BYTES, "no padding");

void store_index_encode_head(uint64_t n_slots, uint64_t n_extents, uint8_t ret[STORE_INDEX_HEAD_BYTES])
{
	const struct head h = { .magic = htole32(STORE_INDEX_MAGIC), .version = htole32(STORE_INDEX_VERSION),
				.page_bytes = htole32(PAGES_SIZE), .n_slots = htole64(n_slots),
				.n_extents = htole64(n_extents) };

	memcpy(ret, &h, sizeof(h));
}

void store_index_encode_extent(const struct store_extent *e, uint8_t ret[STORE_INDEX_EXTENT_BYTES])
{
	const struct extent x = { .pid = htole32(e->pid), .address = htole64(e->address),
				  .n_pages = htole64(e->n_pages), .slot = htole64(e->slot) };

	memcpy(ret, &x, sizeof(x));
}

void store_index_encode_sum(uint64_t sum, uint8_t ret[STORE_INDEX_SUM_BYTES])
{
	const uint64_t little = htole64(sum);

	memcpy(ret, &little, sizeof(little));
}

struct store_extent store_index_extent(const struct store_index *index, uint64_t i)
{
	struct extent x;

	memcpy(&x, index->extents + i * STORE_INDEX_EXTENT_BYTES, sizeof(x));
	return (struct store_extent){ .pid = le32toh(x.pid), .address = le64toh(x.address),
				      .n_pages = le64toh(x.n_pages), .slot = le64toh(x.slot) };
}

uint64_t store_index_sum(const struct store_index *index, uint64_t i)
{
	uint64_t little;

	memcpy(&little, index->sums + i * STORE_INDEX_SUM_BYTES, sizeof(little));
	return le64toh(little);
}

static int damaged(struct error *err, const char *why)
{
	return error_set(err, EPROTO, "the index of the page store: %s", why);
}

static int check_extent(const struct store_index *index, const struct store_extent *e,
			const struct store_extent *before, struct error *err)
{
	if (e->pid == 0 || e->address % PAGES_SIZE || e->address >= PAGES_ADDRESS_END || e->n_pages == 0 ||
	    e->n_pages > (PAGES_ADDRESS_END - e->address) / PAGES_SIZE)
		return damaged(err, "an extent is no memory");
	if (e->slot >= index->n_slots || e->n_pages > index->n_slots - e->slot)
		return damaged(err, "an extent is outside of the store");
	if (before && (e->pid < before->pid ||
		       (e->pid == before->pid && e->address < before->address + before->n_pages * PAGES_SIZE)))
		return damaged(err, "the extents are not in order");
	return 0;
}

static int check_extents(const struct store_index *index, struct error *err)
{
	struct store_extent before = { 0 };

	for (uint64_t i = 0; i < index->n_extents; i++) {
		struct store_extent e = store_index_extent(index, i);

		if (check_extent(index, &e, i ? &before : NULL, err) < 0)
			return -err->code;
		before = e;
	}
	return 0;
}

int store_index_decode(const void *data, size_t len, struct store_index *ret, struct error *err)
{
	struct store_index index;
	struct head h;
	size_t left;

	if (len < sizeof(h))
		return damaged(err, "it is cut off");
	memcpy(&h, data, sizeof(h));
	if (le32toh(h.magic) != STORE_INDEX_MAGIC)
		return damaged(err, "it is something else");
	if (le32toh(h.version) != STORE_INDEX_VERSION || le32toh(h.page_bytes) != PAGES_SIZE || h.zero)
		return damaged(err, "it is of a version that is not supported");
	index.n_slots = le64toh(h.n_slots);
	index.n_extents = le64toh(h.n_extents);
	left = len - sizeof(h);
	if (index.n_extents > left / STORE_INDEX_EXTENT_BYTES)
		return damaged(err, "its length is not what it says");
	left -= index.n_extents * STORE_INDEX_EXTENT_BYTES;
	if (left % STORE_INDEX_SUM_BYTES || index.n_slots != left / STORE_INDEX_SUM_BYTES)
		return damaged(err, "its length is not what it says");
	index.extents = (const uint8_t *)data + sizeof(h);
	index.sums = index.extents + index.n_extents * STORE_INDEX_EXTENT_BYTES;
	if (check_extents(&index, err) < 0)
		return -err->code;
	*ret = index;
	return 0;
}
