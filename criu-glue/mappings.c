#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "criu-glue/mappings.h"
#include "criu-glue/mm.pb-c.h"
#include "engine/base/cleanup.h"

#define MAGIC_IMAGE 0x54564319u
#define MAGIC_MM 0x57492820u
#define HEAD_WORDS 3u			/* the magic pair and the length */
#define PAGE_BYTES 4096u

static bool is_locked(const Mm__VmaEntry *v)
{
	const uint32_t wanted = MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED;

	return (v->flags & wanted) == wanted;
}

static int collect(const Mm__MmEntry *mm, struct pagemap_range **ret, size_t *ret_n, struct error *err)
{
	CLEANUP(freep) struct pagemap_range *list = calloc(mm->n_vmas + 1, sizeof(*list));
	uint64_t end = 0;
	size_t n = 0;

	if (!list)
		return error_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < mm->n_vmas; i++) {
		const Mm__VmaEntry *v = mm->vmas[i];

		if (v->start < end || v->end <= v->start || (v->start | v->end) % PAGE_BYTES)
			return error_set(err, EPROTO, "mm image: mappings that can't be");
		end = v->end;
		if (is_locked(v))
			list[n++] = (struct pagemap_range){ v->start, (v->end - v->start) / PAGE_BYTES };
	}
	*ret_n = n;
	*ret = n ? TAKE_PTR(list) : NULL;
	return 0;
}

int mappings_locked(const void *image, size_t len, struct pagemap_range **ret, size_t *ret_n,
		    struct error *err)
{
	uint32_t head[HEAD_WORDS];
	Mm__MmEntry *mm;
	int r;

	if (len < sizeof(head))
		return error_set(err, EPROTO, "mm image: cut off");
	memcpy(head, image, sizeof(head));
	if (le32toh(head[0]) != MAGIC_IMAGE || le32toh(head[1]) != MAGIC_MM)
		return error_set(err, EPROTO, "mm image: it is something else");
	if (le32toh(head[2]) > len - sizeof(head))
		return error_set(err, EPROTO, "mm image: cut off");
	mm = mm__mm_entry__unpack(NULL, le32toh(head[2]), (const uint8_t *)image + sizeof(head));
	if (!mm)
		return error_set(err, EPROTO, "mm image: it can't be read");
	r = collect(mm, ret, ret_n, err);
	mm__mm_entry__free_unpacked(mm, NULL);
	return r;
}
