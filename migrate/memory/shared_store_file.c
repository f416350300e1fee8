#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/memory/shared_store_state.h"
#include "migrate/memory/store.h"

#define RECORD_BYTES_MAX (PAGES_HEAD_BYTES + PAGES_OBJECT_HEAD_BYTES + PAGES_NAME_MAX)
#define READ_PAGES 64u

int shared_store_save(const struct shared_store *s, void **ret, size_t *ret_len, struct error *err)
{
	uint8_t *data = calloc(s->n + 1, RECORD_BYTES_MAX);
	size_t len = 0;

	if (!data)
		return error_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < s->n; i++) {
		const struct stored_object *o = s->objects[i];
		const struct pages rec = { .kind = PAGES_OBJECT, .pid = o->number, .address = o->size,
					   .n = pages_encode_object(&o->about, data + len + PAGES_HEAD_BYTES) };

		pages_encode_head(&rec, data + len);
		len += PAGES_HEAD_BYTES + rec.n;
	}
	*ret = data;
	*ret_len = len;
	return 0;
}

struct loading {
	const struct store *pages;
	struct shared_store *to;
	uint8_t *room;			/* READ_PAGES */
};

static int load_extent(void *ctx, uint32_t number, uint64_t offset, uint64_t n, uint64_t slot,
		       struct error *err)
{
	const struct loading *l = ctx;

	while (n > 0) {
		size_t some = n < READ_PAGES ? (size_t)n : READ_PAGES;
		const void *data;

		if (store_read(l->pages, slot, some, l->room, &data, err) < 0 ||
		    shared_store_put(l->to, number, offset, data, some, err) < 0)
			return -err->code;
		offset += (uint64_t)some * PAGES_SIZE;
		slot += some;
		n -= some;
	}
	return 0;
}

static int load_object(struct loading *l, const struct pages *rec, struct error *err)
{
	struct pages_object about;

	if (rec->kind != PAGES_OBJECT)
		return error_set(err, EPROTO, "a list of shared memory has something else in it");
	if (pages_decode_object(rec, &about, err) < 0 ||
	    shared_store_object(l->to, rec->pid, rec->address, &about, err) < 0)
		return -err->code;
	return store_walk_space(l->pages, rec->pid, load_extent, l, err);
}

int shared_store_load(struct shared_store *s, const void *data, size_t len, const struct store *pages,
		      struct error *err)
{
	CLEANUP(freep) uint8_t *room = malloc((size_t)READ_PAGES * PAGES_SIZE);
	struct loading l = { .pages = pages, .to = s, .room = room };
	struct pages rec;
	size_t at = 0;
	int r;

	if (!room)
		return error_set(err, ENOMEM, "out of memory");
	while ((r = pages_decode(data, len, &at, &rec, err)) == 0)
		if (load_object(&l, &rec, err) < 0)
			return error_wrap(err, "shared memory");
	return r < 0 ? error_wrap(err, "shared memory") : 0;
}
