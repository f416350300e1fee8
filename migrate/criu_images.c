#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "criu-glue/criu.h"
#include "criu-glue/pagemap.h"
#include "engine/base/fd.h"
#include "migrate/criu_images.h"
#include "proto/pages.h"

#define IMAGE_LIMIT (256u << 20)
#define PIECE_PAGES 64u

struct ranges {
	struct pagemap_range *list;
	uint64_t *slots;		/* of each range's first page */
	size_t n, room;
};

/* One address space or shared object that is being put together. */
struct assembly {
	const struct store *store;
	struct ranges ranges;
	size_t next;			/* range */
	int old_fd, new_fd;
	uint64_t old_offset;
};

static void assembly_closep(struct assembly *a)
{
	fd_close(&a->old_fd);
	fd_close(&a->new_fd);
	free(a->ranges.list);
	free(a->ranges.slots);
}

static int note_extent(void *ctx, uint32_t pid, uint64_t address, uint64_t n_pages, uint64_t slot,
		       struct error *err)
{
	struct ranges *r = ctx;

	(void)pid;
	if (r->n == r->room) {
		size_t room = r->room ? 2 * r->room : 256;
		struct pagemap_range *list = reallocarray(r->list, room, sizeof(*list));
		uint64_t *slots = list ? reallocarray(r->slots, room, sizeof(*slots)) : NULL;

		r->list = list ? list : r->list;
		if (!slots)
			return error_set(err, ENOMEM, "out of memory");
		r->slots = slots;
		r->room = room;
	}
	r->list[r->n] = (struct pagemap_range){ address, n_pages };
	r->slots[r->n++] = slot;
	return 0;
}

static int copy_old(struct assembly *a, uint64_t n_pages, struct error *err)
{
	char piece[PIECE_PAGES * STORE_PAGE];
	uint64_t left = n_pages * STORE_PAGE;

	while (left > 0) {
		size_t len = left < sizeof(piece) ? left : sizeof(piece);
		ssize_t n = pread(a->old_fd, piece, len, (off_t)a->old_offset);

		if (n <= 0)
			return error_set(err, n ? errno : EPROTO, "read its pages: %s",
					 n ? strerror(errno) : "cut off");
		if (fd_write_full(a->new_fd, piece, (size_t)n, err) < 0)
			return -err->code;
		a->old_offset += (uint64_t)n;
		left -= (uint64_t)n;
	}
	return 0;
}

static int copy_stored(const struct assembly *a, uint64_t slot, uint64_t n_pages, struct error *err)
{
	uint8_t room[PIECE_PAGES * STORE_PAGE];

	while (n_pages > 0) {
		size_t some = n_pages < PIECE_PAGES ? n_pages : PIECE_PAGES;
		const void *data;

		if (store_read(a->store, slot, some, room, &data, err) < 0 ||
		    fd_write_full(a->new_fd, data, some * STORE_PAGE, err) < 0)
			return -err->code;
		slot += some;
		n_pages -= some;
	}
	return 0;
}

static int copy_pages(void *ctx, bool from_image, uint64_t address, uint64_t n_pages, struct error *err)
{
	struct assembly *a = ctx;

	(void)address;
	return from_image ? copy_old(a, n_pages, err) :
	       copy_stored(a, a->ranges.slots[a->next++], n_pages, err);
}

static int open_pages(int images_fd, int to_fd, uint32_t id, struct assembly *a, struct error *err)
{
	char name[32];

	(void)snprintf(name, sizeof(name), "pages-%u.img", id);
	a->new_fd = openat(to_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	a->old_fd = a->new_fd < 0 ? -EBADF : openat(images_fd, name, O_RDONLY | O_CLOEXEC);
	if ((a->old_fd < 0 && errno != ENOENT) || a->new_fd < 0)
		return error_set(err, errno, "%s: %s", name, strerror(errno));
	return 0;
}

static int assemble(int images_fd, const struct store *s, int to_fd, uint32_t space, const char *name,
		    struct error *err)
{
	CLEANUP(assembly_closep) struct assembly a = { .store = s, .old_fd = -EBADF, .new_fd = -EBADF };
	CLEANUP(freep) char *old = NULL;
	CLEANUP(freep) void *made = NULL;
	size_t len, made_len;
	uint32_t id;

	if (fd_read_file_at(images_fd, name, IMAGE_LIMIT, &old, &len, err) < 0 ||
	    store_walk_space(s, space, note_extent, &a.ranges, err) < 0 || pagemap_pages_id(old, len, &id, err) < 0 ||
	    open_pages(images_fd, to_fd, id, &a, err) < 0 ||
	    pagemap_complete(old, len, a.ranges.list, a.ranges.n, copy_pages, &a, &made, &made_len, err) < 0 ||
	    fd_replace_file_at(to_fd, name, made, made_len, 0600, FD_REPLACE, err) < 0)
		return error_wrap(err, "%s", name);
	return 0;
}

/* What was assembled is there already. */
static int copy_image(int images_fd, const char *name, int to_fd, struct error *err)
{
	CLEANUP(fd_closep) int from = openat(images_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	CLEANUP(fd_closep) int to = openat(to_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ssize_t n;

	if (to < 0 && errno == EEXIST)
		return 0;
	if (from < 0 || to < 0)
		return error_set(err, errno, "copy %s: %s", name, strerror(errno));
	while ((n = copy_file_range(from, NULL, to, NULL, 1 << 30, 0)) > 0)
		;
	return n < 0 ? error_set(err, errno, "copy %s: %s", name, strerror(errno)) : 0;
}

/* The space of the page store that an image's pages are in; 0: it is another image. */
static uint32_t space_of(const char *name, const struct shared_store *shared)
{
	char wanted[48];
	unsigned long id = 0;

	if (sscanf(name, "pagemap-shmem-%lu.img", &id) == 1) {
		(void)snprintf(wanted, sizeof(wanted), "pagemap-shmem-%lu.img", id);
		return strcmp(name, wanted) == 0 ? shared_store_number(shared, id) : 0;
	}
	if (sscanf(name, "pagemap-%lu.img", &id) != 1)
		return 0;
	(void)snprintf(wanted, sizeof(wanted), "pagemap-%lu.img", id);
	return strcmp(name, wanted) == 0 && id <= PAGES_PID_MAX ? (uint32_t)id : 0;
}

struct set {
	int images_fd, to_fd;
	const struct store *pages;
	const struct shared_store *shared;
};

static int assemble_one(const struct set *set, const char *name, struct error *err)
{
	uint32_t space = space_of(name, set->shared);

	return space ? assemble(set->images_fd, set->pages, set->to_fd, space, name, err) : 0;
}

static int copy_one(const struct set *set, const char *name, struct error *err)
{
	return copy_image(set->images_fd, name, set->to_fd, err);
}

static int each(const struct set *set, int (*fn)(const struct set *set, const char *name, struct error *err),
		struct error *err)
{
	int fd = openat(set->images_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP(dir_closep) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!dir)
		return error_set(err, errno, "list CRIU's images: %s", strerror(errno));
	while ((e = readdir(dir)))
		if (e->d_name[0] != '.' && strcmp(e->d_name, CRIU_DUMP_LOG) != 0 && fn(set, e->d_name, err) < 0)
			return -err->code;
	return 0;
}

int criu_images_write(int images_fd, const struct store *pages, const struct shared_store *shared, int to_fd,
		      struct error *err)
{
	const struct set set = { .images_fd = images_fd, .to_fd = to_fd, .pages = pages, .shared = shared };

	return each(&set, assemble_one, err) < 0 ? -err->code : each(&set, copy_one, err);
}
