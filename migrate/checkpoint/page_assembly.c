#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "migrate/checkpoint/page_assembly.h"

#define PIECE_PAGES 64u

int page_assembly_add(struct page_assembly *a, uint64_t address, uint64_t n_pages, uint64_t slot,
		      struct error *err)
{
	if (a->n == a->room) {
		size_t room = a->room ? 2 * a->room : 256;
		struct pagemap_range *ranges = reallocarray(a->ranges, room, sizeof(*ranges));
		uint64_t *slots = ranges ? reallocarray(a->slots, room, sizeof(*slots)) : NULL;

		a->ranges = ranges ? ranges : a->ranges;
		if (!slots)
			return error_set(err, ENOMEM, "out of memory");
		a->slots = slots;
		a->room = room;
	}
	a->ranges[a->n] = (struct pagemap_range){ address, n_pages };
	a->slots[a->n++] = slot;
	return 0;
}

void page_assembly_clear(struct page_assembly *a)
{
	free(a->ranges);
	free(a->slots);
	*a = (struct page_assembly){ .store = a->store };
}

/* While it is written. */
struct writing {
	const struct page_assembly *a;
	size_t next;			/* range */
	int old_fd, new_fd;
	uint64_t old_offset;
};

static void writing_closep(struct writing *w)
{
	fd_close(&w->old_fd);
	fd_close(&w->new_fd);
}

static int copy_old(struct writing *w, uint64_t n_pages, struct error *err)
{
	char piece[PIECE_PAGES * STORE_PAGE];
	uint64_t left = n_pages * STORE_PAGE;

	while (left > 0) {
		size_t len = left < sizeof(piece) ? left : sizeof(piece);
		ssize_t n = pread(w->old_fd, piece, len, (off_t)w->old_offset);

		if (n <= 0)
			return error_set(err, n ? errno : EPROTO, "read its pages: %s",
					 n ? strerror(errno) : "cut off");
		if (fd_write_full(w->new_fd, piece, (size_t)n, err) < 0)
			return -err->code;
		w->old_offset += (uint64_t)n;
		left -= (uint64_t)n;
	}
	return 0;
}

static int copy_stored(const struct writing *w, uint64_t slot, uint64_t n_pages, struct error *err)
{
	uint8_t room[PIECE_PAGES * STORE_PAGE];

	while (n_pages > 0) {
		size_t some = n_pages < PIECE_PAGES ? n_pages : PIECE_PAGES;
		const void *data;

		if (store_read(w->a->store, slot, some, room, &data, err) < 0 ||
		    fd_write_full(w->new_fd, data, some * STORE_PAGE, err) < 0)
			return -err->code;
		slot += some;
		n_pages -= some;
	}
	return 0;
}

static int copy_pages(void *ctx, bool from_image, uint64_t address, uint64_t n_pages, struct error *err)
{
	struct writing *w = ctx;

	(void)address;
	return from_image ? copy_old(w, n_pages, err) : copy_stored(w, w->a->slots[w->next++], n_pages, err);
}

int page_assembly_write(const struct page_assembly *a, int images_fd, int to_fd, const void *image, size_t len,
			void **ret, size_t *ret_len, struct error *err)
{
	CLEANUP(writing_closep) struct writing w = { .a = a, .old_fd = -EBADF, .new_fd = -EBADF };
	char name[32], fresh[40];
	uint32_t id;

	if (pagemap_pages_id(image, len, &id, err) < 0)
		return -err->code;
	(void)snprintf(name, sizeof(name), "pages-%u.img", id);
	(void)snprintf(fresh, sizeof(fresh), "%s.new", name);
	w.new_fd = openat(to_fd, fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	w.old_fd = w.new_fd < 0 ? -EBADF : openat(images_fd, name, O_RDONLY | O_CLOEXEC);
	if ((w.old_fd < 0 && errno != ENOENT) || w.new_fd < 0)
		return error_set(err, errno, "%s: %s", name, strerror(errno));
	if (pagemap_complete(image, len, a->ranges, a->n, copy_pages, &w, ret, ret_len, err) < 0)
		return -err->code;
	return renameat(to_fd, fresh, to_fd, name) < 0 ? error_set(err, errno, "%s: %s", name, strerror(errno)) : 0;
}
