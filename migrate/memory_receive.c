#include <errno.h>
#include <stdlib.h>

#include "migrate/memory_receive.h"
#include "proto/pages.h"

_Static_assert(PAGES_SIZE == STORE_PAGE, "one page size");

#define HASHES_MAX 65536u

static int add_hash(struct memory_hashes *h, const struct pages *p, struct error *err)
{
	struct memory_hash *more;

	if (h->n == HASHES_MAX)
		return error_set(err, EPROTO, "hashes of more than %u processes", HASHES_MAX);
	more = reallocarray(h->list, h->n + 1, sizeof(*more));
	if (!more)
		return error_set(err, ENOMEM, "out of memory");
	h->list = more;
	more[h->n++] = (struct memory_hash){ p->pid, p->address };
	return 0;
}

static int put(struct store *s, struct memory_hashes *hashes, const struct pages *p,
	       struct error *err)
{
	switch (p->kind) {
	case PAGES_DATA:
		return store_put(s, p->pid, p->address, p->data, p->n, err);
	case PAGES_ZERO:
		return store_put_zero(s, p->pid, p->address, p->n, err);
	case PAGES_DROP:
		return store_drop(s, p->pid, err);
	case PAGES_HASH:
		return add_hash(hashes, p, err);
	case PAGES_POPULATED:
		return store_populated(s, p->pid, p->address, p->address + p->n * PAGES_SIZE, err);
	}
	return 0;			/* pages_decode lets no other through */
}

int memory_receive(struct channel *ch, struct store *s, struct memory_hashes *hashes,
		   struct error *err)
{
	const void *block;
	ssize_t len;

	while ((len = channel_receive_data(ch, &block, err)) > 0) {
		struct pages p;
		size_t at = 0;
		int r;

		while ((r = pages_decode(block, (size_t)len, &at, &p, err)) == 0)
			if (put(s, hashes, &p, err) < 0)
				return error_wrap(err, "receive memory");
		if (r < 0)
			return error_wrap(err, "receive memory");
	}
	return (int)len;
}

int memory_verify(const struct store *s, const struct memory_hashes *hashes, struct error *err)
{
	for (size_t i = 0; i < hashes->n; i++) {
		uint64_t here;

		if (store_hash(s, hashes->list[i].pid, &here, err) < 0)
			return -err->code;
		if (here != hashes->list[i].value)
			return error_set(err, EBADMSG, "the memory of process %u here is not what it is at the source",
					 hashes->list[i].pid);
	}
	return 0;
}
