/*
 * pagemap.h - pagemap-PID.img: which pages of a task are where
 *
 * CRIU's image (https://criu.org/Memory_dumps, images/pagemap.proto): a magic
 * pair, then records of length and message; first the head {pages_id}, then
 * entries in address order. Only what we need of it: reading the entries that
 * CRIU dumped itself, and writing them again merged with entries for
 * pages that a page store holds. CRIU 4.1 counts pages in field 2, 4.2 in field
 * 5: either is read, both are written. The lazy bit of entries whose pages are
 * in pages-N.img is cleared, since a lazy restore would skip them. Neighbours
 * of one kind become one entry.
 *
 * Codec: bytes in, bytes out; an image may come from a peer, all is bounded.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/error.h"

struct pagemap_range {
	uint64_t address;
	uint64_t n_pages;
};

/* image (len bytes) as CRIU wrote it and n lazy ranges in ascending order make
 * a new image at *ret, the caller's to free. The ranges must lie in mappings
 * that CRIU takes as lazy: private, anonymous, not locked, not hugetlb. -EPROTO for a damaged image or for
 * ranges that overlap pages of the image. */
int pagemap_merge(const void *image, size_t len, const struct pagemap_range *lazy, size_t n,
		  void **ret, size_t *ret_len, struct error *err);

/* The next n_pages of the new image's pages-N.img, in their order: from_image, they
 * are those that come next in the old one's, else of a range. */
typedef int (*pagemap_pages_fn)(void *ctx, bool from_image, uint64_t address, uint64_t n_pages,
				struct error *err);

/* As pagemap_merge, with the ranges as pages that are there, like CRIU's own: an
 * image for a restore that is not lazy. */
int pagemap_complete(const void *image, size_t len, const struct pagemap_range *ranges, size_t n,
		     pagemap_pages_fn pages, void *ctx, void **ret, size_t *ret_len, struct error *err);

/* N of the pages-N.img that an image belongs to. */
int pagemap_pages_id(const void *image, size_t len, uint32_t *ret, struct error *err);
