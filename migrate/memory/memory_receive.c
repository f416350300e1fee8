#include <errno.h>
#include <stdlib.h>

#include "migrate/memory/memory_receive.h"
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

static int put_object(struct shared_store *shared, const struct pages *p, struct error *err)
{
	struct pages_object about;

	if (pages_decode_object(p, &about, err) < 0)
		return -err->code;
	return shared_store_object(shared, p->pid, p->address, &about, err);
}

static int put_shared(struct shared_store *shared, struct memory_hashes *hashes, const struct pages *p,
		      struct error *err)
{
	switch (p->kind) {
	case PAGES_OBJECT:
		return put_object(shared, p, err);
	case PAGES_DATA:
	case PAGES_ZERO:
		return shared_store_put(shared, p->pid, p->address, p->data, p->n, err);
	case PAGES_DROP:
		return shared_store_drop(shared, p->pid, err);
	case PAGES_HASH:
		return add_hash(hashes, p, err);
	case PAGES_POPULATED:
		break;
	}
	return 0;
}

static int put_map(const struct memory_receiver *r, const struct pages *p, struct error *err)
{
	if (r->settle && r->settle(r->ctx, err) < 0)
		return -err->code;
	if (p->kind == PAGES_HASH)
		return add_hash(r->hashes, p, err);
	return store_populated(r->store, p->pid, p->address, p->address + p->n * PAGES_SIZE, err);
}

static int put(const struct memory_receiver *r, const struct pages *p, struct error *err)
{
	bool object = pages_is_object(p->pid), map = p->kind == PAGES_HASH || p->kind == PAGES_POPULATED;

	if (r->connection > 0 && (object || map))
		return error_set(err, EPROTO, "only pages come over connection %u", r->connection + 1);
	if (object)
		return put_shared(r->shared, r->hashes, p, err);
	switch (p->kind) {
	case PAGES_DATA:
		return store_put(r->store, p->pid, p->address, p->data, p->n, err);
	case PAGES_ZERO:
		return store_put_zero(r->store, p->pid, p->address, p->n, err);
	case PAGES_DROP:
		return store_drop(r->store, p->pid, r->connection, r->connections, err);
	case PAGES_HASH:
	case PAGES_POPULATED:
		return put_map(r, p, err);
	case PAGES_OBJECT:
		break;
	}
	return 0;			/* pages_decode lets no other through */
}

/* Both take their memory from the same machine. */
static int check_room(const struct store *s, const struct shared_store *shared, struct error *err)
{
	uint64_t pages = shared_store_pages(shared) + store_stats(s).pages;

	if (pages > store_max_pages(s))
		return error_set(err, ENOSPC, "more than the %llu pages of memory that are free here",
				 (unsigned long long)store_max_pages(s));
	return 0;
}

static int put_block(const struct memory_receiver *to, const void *block, size_t len, struct error *err)
{
	bool any_shared = false;
	struct pages p;
	size_t at = 0;
	int r;

	while ((r = pages_decode(block, len, &at, &p, err)) == 0) {
		if (put(to, &p, err) < 0)
			return -err->code;
		any_shared |= pages_is_object(p.pid);
	}
	if (r >= 0 && any_shared)
		r = check_room(to->store, to->shared, err);
	return r < 0 ? r : 0;
}

int memory_receive(struct channel *ch, const struct memory_receiver *r, struct error *err)
{
	const void *block;
	ssize_t len;

	while ((len = channel_receive_data(ch, &block, err)) > 0)
		if (put_block(r, block, (size_t)len, err) < 0)
			return error_wrap(err, "receive memory");
	return (int)len;
}

static int verify_one(const struct store *s, const struct shared_store *shared,
		      const struct memory_hash *hash, struct error *err)
{
	bool object = pages_is_object(hash->pid);
	uint64_t here;

	if ((object ? shared_store_hash(shared, hash->pid, &here, err) : store_hash(s, hash->pid, &here, err)) < 0)
		return -err->code;
	if (here == hash->value)
		return 0;
	return object ? error_set(err, EBADMSG, "shared memory '%.200s' here is not what it is at the source",
				  shared_store_name(shared, hash->pid)) :
			error_set(err, EBADMSG, "the memory of process %u here is not what it is at the source",
				  hash->pid);
}

int memory_verify(const struct store *s, const struct shared_store *shared,
		  const struct memory_hashes *hashes, struct error *err)
{
	for (size_t i = 0; i < hashes->n; i++)
		if (verify_one(s, shared, &hashes->list[i], err) < 0)
			return -err->code;
	return 0;
}
