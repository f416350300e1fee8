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

struct object_head {
	uint32_t kind, huge_shift, seals, name_len;
	uint64_t inode;
};
_Static_assert(sizeof(struct object_head) == PAGES_OBJECT_HEAD_BYTES, "no padding");

static int check_object(const struct pages *p, struct error *err)
{
	if (!pages_is_object(p->pid) || p->address > PAGES_ADDRESS_END ||
	    p->n < PAGES_OBJECT_HEAD_BYTES || p->n > PAGES_OBJECT_HEAD_BYTES + PAGES_NAME_MAX)
		return error_set(err, EPROTO, "pages: a malformed shared object");
	return 0;
}

static int check(const struct pages *p, struct error *err)
{
	if (p->kind < PAGES_DATA || p->kind > PAGES_OBJECT)
		return error_set(err, EPROTO, "pages of unknown kind %u", (unsigned)p->kind);
	if (p->pid == 0 || p->pid > PAGES_PID_MAX + PAGES_OBJECTS_MAX)
		return error_set(err, EPROTO, "pages of an impossible process");
	if (p->kind == PAGES_OBJECT)
		return check_object(p, err);
	if (p->kind == PAGES_POPULATED && pages_is_object(p->pid))
		return error_set(err, EPROTO, "pages: a map of a shared object");
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
	if (p.kind == PAGES_OBJECT) {
		if (p.n > len - *at)
			return error_set(err, EPROTO, "a shared object's description is cut short");
		p.data = (const char *)block + *at;
		*at += p.n;
	}
	*ret = p;
	return 0;
}

size_t pages_encode_object(const struct pages_object *o, uint8_t ret[PAGES_OBJECT_HEAD_BYTES + PAGES_NAME_MAX])
{
	size_t len = strnlen(o->name, PAGES_NAME_MAX);
	const struct object_head h = { .kind = htole32(o->kind), .huge_shift = htole32(o->huge_shift),
				       .seals = htole32(o->seals), .name_len = htole32((uint32_t)len),
				       .inode = htole64(o->inode) };

	memcpy(ret, &h, sizeof(h));
	memcpy(ret + sizeof(h), o->name, len);
	return sizeof(h) + len;
}

int pages_decode_object(const struct pages *p, struct pages_object *ret, struct error *err)
{
	const char *name = (const char *)p->data + PAGES_OBJECT_HEAD_BYTES;
	size_t len = p->n - PAGES_OBJECT_HEAD_BYTES;
	struct object_head h;

	memcpy(&h, p->data, sizeof(h));
	ret->kind = (enum pages_object_kind)le32toh(h.kind);
	ret->huge_shift = le32toh(h.huge_shift);
	ret->seals = le32toh(h.seals);
	ret->inode = le64toh(h.inode);
	if (ret->kind < PAGES_SHMEM || ret->kind > PAGES_FILE || ret->huge_shift > 63 ||
	    le32toh(h.name_len) != len || memchr(name, '\0', len))
		return error_set(err, EPROTO, "pages: a shared object of an impossible kind");
	memcpy(ret->name, name, len);
	ret->name[len] = '\0';
	return 0;
}
