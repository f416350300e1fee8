#include <endian.h>
#include <errno.h>
#include <string.h>

#include "proto/pages.h"

struct head {
	uint32_t kind, pid;
	uint64_t address, n;
};
_Static_assert(sizeof(struct head) == PAGES_HEAD_BYTES, "no padding");

void pages_encode_head(const struct pages *p, uint8_t ret[PAGES_HEAD_BYTES])
{
	const struct head h = { .kind = htole32(p->kind), .pid = htole32(p->pid),
				.address = htole64(p->address), .n = htole64(p->n) };

	memcpy(ret, &h, sizeof(h));
}

static int check(const struct pages *p, struct error *err)
{
	if (p->kind < PAGES_DATA || p->kind > PAGES_HASH)
		return error_set(err, EPROTO, "pages of unknown kind %u", (unsigned)p->kind);
	if (p->pid == 0 || p->pid > 1u << 22)
		return error_set(err, EPROTO, "pages of an impossible process");
	if (p->kind == PAGES_DROP)
		return p->address || p->n ? error_set(err, EPROTO, "pages: a dropped space with a range") : 0;
	if (p->kind == PAGES_HASH)
		return p->n != 1 ? error_set(err, EPROTO, "pages: a malformed hash") : 0;
	if (p->n == 0 || p->address % PAGES_SIZE || p->address >= PAGES_ADDRESS_END ||
	    p->n > (PAGES_ADDRESS_END - p->address) / PAGES_SIZE)
		return error_set(err, EPROTO, "pages outside of any address space");
	return 0;
}

int pages_decode(const void *block, size_t len, size_t *at, struct pages *ret, struct error *err)
{
	struct pages p = { 0 };
	struct head h;

	if (*at == len)
		return 1;
	if (len - *at < sizeof(h))
		return error_set(err, EPROTO, "a record of pages is cut short");
	memcpy(&h, (const char *)block + *at, sizeof(h));
	p.kind = (enum pages_kind)le32toh(h.kind);
	p.pid = le32toh(h.pid);
	p.address = le64toh(h.address);
	p.n = le64toh(h.n);
	if (check(&p, err) < 0)
		return -err->code;
	*at += sizeof(h);
	if (p.kind == PAGES_DATA) {
		if (p.n > (len - *at) / PAGES_SIZE)
			return error_set(err, EPROTO, "a record of pages is cut short");
		p.data = (const char *)block + *at;
		*at += p.n * PAGES_SIZE;
	}
	*ret = p;
	return 0;
}
