/*
 * page_assembly.h - pages of a store put among those that CRIU dumped itself
 *
 * For pages that must be in CRIU's images when a restore begins: pages-N.img is
 * written anew, in the order of its pagemap image (criu-glue/pagemap.h).
 *
 *   struct page_assembly a = { .store = store };
 *   r = page_assembly_add(&a, address, n_pages, slot, err);	ascending
 *   r = page_assembly_write(&a, images, images, image, len, &made, &made_len, err);
 *   page_assembly_clear(&a);
 */
#pragma once

#include "criu-glue/pagemap.h"
#include "migrate/memory/store.h"

struct page_assembly {
	const struct store *store;	/* borrowed */
	struct pagemap_range *ranges;
	uint64_t *slots;		/* of each range's first page */
	size_t n, room;
};

int page_assembly_add(struct page_assembly *a, uint64_t address, uint64_t n_pages, uint64_t slot,
		      struct error *err);
void page_assembly_clear(struct page_assembly *a);

/* image (len bytes) is a pagemap image whose pages are below images_fd. Its new
 * pages-N.img is below to_fd afterwards, which may be the same folder; *ret is the new
 * pagemap image, the caller's to write and to free. */
int page_assembly_write(const struct page_assembly *a, int images_fd, int to_fd, const void *image, size_t len,
			void **ret, size_t *ret_len, struct error *err);
