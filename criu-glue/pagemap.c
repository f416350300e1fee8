#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "criu-glue/pagemap.h"
#include "engine/base/cleanup.h"

#define MAGIC_IMAGE 0x54564319u
#define MAGIC_PAGEMAP 0x56084025u
#define MAGIC_BYTES 8u

#define PAGE_BYTES 4096u
#define ADDRESS_MAX (1ull << 57)

/* Fields of an entry, and the only wire type that they have. */
#define FIELD_ADDRESS 1u
#define FIELD_PAGES_32 2u		/* CRIU before 4.2 */
#define FIELD_IN_PARENT 3u		/* CRIU before 3.0, instead of flags */
#define FIELD_FLAGS 4u
#define FIELD_PAGES 5u
#define FIELDS 6u
#define WIRE_VARINT 0u

#define FLAG_PARENT 1u
#define FLAG_LAZY 2u
#define FLAG_PRESENT 4u

/* Length, and four fields of a tag and at most ten bytes each. */
#define RECORD_BYTES_MAX 48u

struct entry {
	uint64_t address, n_pages, flags;
};

struct reader {
	const uint8_t *at, *end;
};

static int damaged(struct error *err, const char *why)
{
	return error_set(err, EPROTO, "pagemap image: %s", why);
}

static int read_u32(struct reader *in, uint32_t *ret, struct error *err)
{
	uint32_t little;

	if ((size_t)(in->end - in->at) < sizeof(little))
		return damaged(err, "cut off");
	memcpy(&little, in->at, sizeof(little));
	in->at += sizeof(little);
	*ret = le32toh(little);
	return 0;
}

static int read_varint(struct reader *in, uint64_t *ret, struct error *err)
{
	uint64_t value = 0;

	for (unsigned shift = 0; shift < 64; shift += 7) {
		uint8_t byte;

		if (in->at == in->end)
			return damaged(err, "a number is cut off");
		byte = *in->at++;
		if (shift == 63 && byte > 1)
			break;
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*ret = value;
			return 0;
		}
	}
	return damaged(err, "a number of more than 64 bits");
}

/* The bytes of the next record. */
static int read_record(struct reader *in, struct reader *ret, struct error *err)
{
	uint32_t len = 0;

	if (read_u32(in, &len, err) < 0)
		return -err->code;
	if (len > (size_t)(in->end - in->at))
		return damaged(err, "a record is cut off");
	*ret = (struct reader){ in->at, in->at + len };
	in->at += len;
	return 0;
}

static int read_fields(struct reader record, uint64_t values[FIELDS], bool there[FIELDS],
		       struct error *err)
{
	while (record.at < record.end) {
		uint64_t tag, value;

		if (read_varint(&record, &tag, err) < 0 || read_varint(&record, &value, err) < 0)
			return -err->code;
		if ((tag & 7) != WIRE_VARINT || tag >> 3 == 0 || tag >> 3 >= FIELDS)
			return damaged(err, "an entry has an unknown field");
		values[tag >> 3] = value;
		there[tag >> 3] = true;
	}
	return 0;
}

static int read_entry(struct reader *in, struct entry *ret, struct error *err)
{
	uint64_t values[FIELDS] = { 0 };
	bool there[FIELDS] = { false };
	struct reader record;
	struct entry e;

	if (read_record(in, &record, err) < 0 || read_fields(record, values, there, err) < 0)
		return -err->code;
	if (!there[FIELD_ADDRESS] || !there[FIELD_PAGES_32])
		return damaged(err, "an entry has no address or no pages");
	e.address = values[FIELD_ADDRESS];
	e.n_pages = there[FIELD_PAGES] ? values[FIELD_PAGES] : values[FIELD_PAGES_32];
	e.flags = there[FIELD_FLAGS]	    ? values[FIELD_FLAGS] :
		  values[FIELD_IN_PARENT] ? FLAG_PARENT :
					      FLAG_PRESENT;
	if (e.flags & ~(uint64_t)(FLAG_PARENT | FLAG_LAZY | FLAG_PRESENT))
		return damaged(err, "an entry has an unknown flag");
	if (!(e.flags & (FLAG_PARENT | FLAG_PRESENT)))
		return damaged(err, "an entry whose pages are nowhere");
	*ret = e;
	return 0;
}

static void write_u32(uint8_t **at, uint32_t value)
{
	uint32_t little = htole32(value);

	memcpy(*at, &little, sizeof(little));
	*at += sizeof(little);
}

static void write_field(uint8_t **at, unsigned field, uint64_t value)
{
	*(*at)++ = (uint8_t)(field << 3 | WIRE_VARINT);
	for (; value > 0x7f; value >>= 7)
		*(*at)++ = (uint8_t)(value | 0x80);
	*(*at)++ = (uint8_t)value;
}

static void write_entry(uint8_t **at, const struct entry *e)
{
	uint8_t *length = *at;

	*at += sizeof(uint32_t);
	write_field(at, FIELD_ADDRESS, e->address);
	write_field(at, FIELD_PAGES_32, e->n_pages);
	write_field(at, FIELD_FLAGS, e->flags);
	write_field(at, FIELD_PAGES, e->n_pages);
	write_u32(&length, (uint32_t)(*at - length - sizeof(uint32_t)));
}

/* What is written: entries in order, neighbours of one kind in one. */
struct writer {
	uint8_t *at;
	struct entry last;
	uint64_t end;			/* of what came so far */
};

static int add(struct writer *out, const struct entry *e, struct error *err)
{
	if (e->address % PAGE_BYTES || e->address >= ADDRESS_MAX || e->n_pages == 0 ||
	    e->n_pages > (ADDRESS_MAX - e->address) / PAGE_BYTES || e->n_pages > UINT32_MAX)
		return error_set(err, EPROTO, "pagemap image: %llu pages at 0x%llx are no memory",
				 (unsigned long long)e->n_pages, (unsigned long long)e->address);
	if (e->address < out->end)
		return error_set(err, EPROTO,
				 "pagemap image: the page at 0x%llx is there twice or out of order",
				 (unsigned long long)e->address);
	if (out->last.n_pages && e->address == out->end && e->flags == out->last.flags &&
	    out->last.n_pages + e->n_pages <= UINT32_MAX) {
		out->last.n_pages += e->n_pages;
	} else {
		if (out->last.n_pages)
			write_entry(&out->at, &out->last);
		out->last = *e;
	}
	out->end = e->address + e->n_pages * PAGE_BYTES;
	return 0;
}

/* What an image is merged with. */
struct merge {
	const struct pagemap_range *ranges;
	size_t n;
	uint64_t flags;			/* of the ranges' entries */
	pagemap_pages_fn pages;		/* NULL: nobody wants to know */
	void *ctx;
};

static int add_entry(struct writer *out, const struct merge *m, const struct entry *e, bool from_image,
		     struct error *err)
{
	if (add(out, e, err) < 0)
		return -err->code;
	return m->pages ? m->pages(m->ctx, from_image, e->address, e->n_pages, err) : 0;
}

static int add_range(struct writer *out, const struct merge *m, size_t i, struct error *err)
{
	const struct entry e = { m->ranges[i].address, m->ranges[i].n_pages, m->flags };

	return add_entry(out, m, &e, false, err);
}

static int merge_entries(struct reader *in, const struct merge *m, struct writer *out, struct error *err)
{
	size_t i = 0;

	while (in->at < in->end) {
		struct entry e = { 0 };

		if (read_entry(in, &e, err) < 0)
			return -err->code;
		e.flags &= ~(uint64_t)FLAG_LAZY;
		if (m->pages && e.flags != FLAG_PRESENT)
			return damaged(err, "pages that are in another image");
		for (; i < m->n && m->ranges[i].address <= e.address; i++)
			if (add_range(out, m, i, err) < 0)
				return -err->code;
		if (add_entry(out, m, &e, true, err) < 0)
			return -err->code;
	}
	for (; i < m->n; i++)
		if (add_range(out, m, i, err) < 0)
			return -err->code;
	if (out->last.n_pages)
		write_entry(&out->at, &out->last);
	return 0;
}

/* Magic and head, which stay as they are. Returns their length, or an error. */
static int read_head(struct reader *in, struct error *err)
{
	const uint8_t *start = in->at;
	struct reader head;
	uint32_t image = 0, kind = 0;

	if (read_u32(in, &image, err) < 0 || read_u32(in, &kind, err) < 0)
		return -err->code;
	if (image != MAGIC_IMAGE || kind != MAGIC_PAGEMAP)
		return damaged(err, "it is something else");
	if (read_record(in, &head, err) < 0)
		return -err->code;
	if (head.end - head.at > 16)
		return damaged(err, "a head of more than 16 bytes");
	return (int)(in->at - start);
}

static int merge(const void *image, size_t len, const struct merge *m, void **ret, size_t *ret_len,
		 struct error *err)
{
	struct reader in = { image, (const uint8_t *)image + len };
	CLEANUP(freep) uint8_t *data = NULL;
	struct writer out = { .end = 0 };
	int head = read_head(&in, err);
	size_t records;

	if (head < 0)
		return head;
	/* an entry is at least a length, an address and a number */
	records = m->n + (len - (size_t)head) / (sizeof(uint32_t) + 4);
	data = reallocarray(NULL, records + 1, RECORD_BYTES_MAX);
	if (!data)
		return error_set(err, ENOMEM, "no memory for a pagemap image of %zu entries", records);
	memcpy(data, image, (size_t)head);
	out.at = data + head;
	if (merge_entries(&in, m, &out, err) < 0)
		return -err->code;
	*ret_len = (size_t)(out.at - data);
	*ret = TAKE_PTR(data);
	return 0;
}

int pagemap_merge(const void *image, size_t len, const struct pagemap_range *lazy, size_t n,
		  void **ret, size_t *ret_len, struct error *err)
{
	const struct merge m = { .ranges = lazy, .n = n, .flags = FLAG_LAZY };

	return merge(image, len, &m, ret, ret_len, err);
}

int pagemap_complete(const void *image, size_t len, const struct pagemap_range *ranges, size_t n,
		     pagemap_pages_fn pages, void *ctx, void **ret, size_t *ret_len, struct error *err)
{
	const struct merge m = { .ranges = ranges, .n = n, .flags = FLAG_PRESENT, .pages = pages, .ctx = ctx };

	return merge(image, len, &m, ret, ret_len, err);
}

int pagemap_pages_id(const void *image, size_t len, uint32_t *ret, struct error *err)
{
	struct reader in = { image, (const uint8_t *)image + len };
	struct reader head;
	uint64_t tag, value;

	if (read_head(&in, err) < 0)
		return -err->code;
	in.at = (const uint8_t *)image + MAGIC_BYTES;
	if (read_record(&in, &head, err) < 0 || read_varint(&head, &tag, err) < 0 ||
	    read_varint(&head, &value, err) < 0)
		return -err->code;
	if (tag != (FIELD_ADDRESS << 3 | WIRE_VARINT) || value > UINT32_MAX)
		return damaged(err, "its head names no pages");
	*ret = (uint32_t)value;
	return 0;
}
