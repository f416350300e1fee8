#include <fcntl.h>
#include <string.h>

#include "criu-glue/mappings.h"
#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "migrate/checkpoint/page_assembly.h"
#include "migrate/memory/lazy_images.h"
#include "proto/pages.h"

#define IMAGE_LIMIT (256u << 20)

/* The address space that is being collected; 0: none yet. */
struct collect {
	int images_fd;
	struct store *store;
	uint32_t pid;
	bool ended;			/* between the last look at its memory and the dump */
	struct pagemap_range *locked;	/* its mappings */
	size_t n_locked, next_locked;
	struct page_assembly eager;	/* pages in them, */
	struct pagemap_range *lazy;	/* and all others */
	size_t n, room;
	uint32_t *done;			/* pids whose image is rewritten, in order */
	size_t n_done, done_room;
};

/* A process that CRIU found without memory has ended: an exit goes on while the control group is
 * frozen. That the images are complete has been checked before. */
static int read_locked(struct collect *c, struct error *err)
{
	CLEANUP(freep) char *image = NULL;
	char name[32];
	size_t len;
	int r;

	(void)snprintf(name, sizeof(name), "mm-%u.img", c->pid);
	r = fd_read_file_at(c->images_fd, name, IMAGE_LIMIT, &image, &len, err);
	c->ended = r == -ENOENT;
	if (r < 0)
		return c->ended ? 0 : r;
	if (mappings_locked(image, len, &c->locked, &c->n_locked, err) < 0)
		return error_wrap(err, "%s", name);
	return 0;
}

static int take_out(const struct collect *c, const struct pagemap_range *ranges, size_t n, struct error *err)
{
	for (size_t i = 0; i < n; i++)
		if (store_take_out(c->store, c->pid, ranges[i].address, ranges[i].n_pages, err) < 0)
			return -err->code;
	return 0;
}

/* Pages of the store that CRIU wants at once, into pages-N.img. */
static int put_eager(struct collect *c, char **image, size_t *len, struct error *err)
{
	void *made = NULL;

	if (c->eager.n == 0)
		return 0;
	if (page_assembly_write(&c->eager, c->images_fd, c->images_fd, *image, *len, &made, len, err) < 0)
		return -err->code;
	free(*image);
	*image = made;
	return take_out(c, c->eager.ranges, c->eager.n, err);
}

static void forget(struct collect *c)
{
	free(c->locked);
	c->locked = NULL;
	c->ended = false;
	c->n = c->n_locked = c->next_locked = 0;
	page_assembly_clear(&c->eager);
}

static int note_done(struct collect *c, struct error *err)
{
	uint32_t *more;

	if (c->n_done == c->done_room) {
		c->done_room = c->done_room ? c->done_room * 2 : 64;
		more = reallocarray(c->done, c->done_room, sizeof(*more));
		if (!more)
			return error_set(err, ENOMEM, "out of memory");
		c->done = more;
	}
	c->done[c->n_done++] = c->pid;
	return 0;
}

static int rewrite_one(struct collect *c, struct error *err)
{
	CLEANUP(freep) char *image = NULL;
	CLEANUP(freep) void *merged = NULL;
	char name[32];
	size_t len, merged_len;

	if (c->ended)
		return take_out(c, c->lazy, c->n, err);
	(void)snprintf(name, sizeof(name), "pagemap-%u.img", c->pid);
	if (fd_read_file_at(c->images_fd, name, IMAGE_LIMIT, &image, &len, err) < 0)
		return error_set(err, EPROTO, "memory of process %u came, but no image of it", c->pid);
	if (put_eager(c, &image, &len, err) < 0 ||
	    pagemap_merge(image, len, c->lazy, c->n, &merged, &merged_len, err) < 0 ||
	    fd_replace_file_at(c->images_fd, name, merged, merged_len, 0600, FD_REPLACE, err) < 0)
		return error_wrap(err, "%s", name);
	return note_done(c, err);
}

static int add_lazy(struct collect *c, uint64_t address, uint64_t n_pages, struct error *err)
{
	struct pagemap_range *last = c->n ? &c->lazy[c->n - 1] : NULL, *more;

	if (last && last->address + last->n_pages * STORE_PAGE == address) {
		last->n_pages += n_pages;
		return 0;
	}
	if (c->n == c->room) {
		c->room = c->room ? c->room * 2 : 256;
		more = reallocarray(c->lazy, c->room, sizeof(*more));
		if (!more)
			return error_set(err, ENOMEM, "out of memory");
		c->lazy = more;
	}
	c->lazy[c->n++] = (struct pagemap_range){ .address = address, .n_pages = n_pages };
	return 0;
}

/* Pages up to the next border of a locked mapping; *ret_locked tells on which side. */
static uint64_t pages_alike(struct collect *c, uint64_t address, uint64_t n_pages, bool *ret_locked)
{
	const struct pagemap_range *l = c->locked;
	uint64_t end = address + n_pages * STORE_PAGE, border = end;

	while (c->next_locked < c->n_locked &&
	       l[c->next_locked].address + l[c->next_locked].n_pages * STORE_PAGE <= address)
		c->next_locked++;
	l += c->next_locked;
	*ret_locked = c->next_locked < c->n_locked && l->address <= address;
	if (*ret_locked)
		border = l->address + l->n_pages * STORE_PAGE;
	else if (c->next_locked < c->n_locked)
		border = l->address;
	return ((border < end ? border : end) - address) / STORE_PAGE;
}

static int begin_space(struct collect *c, uint32_t pid, struct error *err)
{
	if (c->pid && rewrite_one(c, err) < 0)
		return -err->code;
	forget(c);
	c->pid = pid;
	return read_locked(c, err);
}

static int on_extent(void *ctx, uint32_t pid, uint64_t address, uint64_t n_pages, uint64_t slot,
		     struct error *err)
{
	struct collect *c = ctx;

	if (pages_is_object(pid))
		return 0;
	if (pid != c->pid && begin_space(c, pid, err) < 0)
		return -err->code;
	while (n_pages > 0) {
		bool locked;
		uint64_t some = pages_alike(c, address, n_pages, &locked);

		if ((locked ? page_assembly_add(&c->eager, address, some, slot, err) :
			      add_lazy(c, address, some, err)) < 0)
			return -err->code;
		address += some * STORE_PAGE;
		slot += some;
		n_pages -= some;
	}
	return 0;
}

static int compare_pids(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Processes of which the store has nothing (one that has just been executed has a
 * stack only). All that they have is in CRIU's pages, which it calls lazy, too. */
static int rewrite_rest(struct collect *c, struct error *err)
{
	CLEANUP(fd_closep) int fd = openat(c->images_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP(dir_closep) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	size_t with_pages = c->n_done;
	const struct dirent *e;
	int end;

	if (!dir)
		return error_set(err, errno, "list the images: %s", strerror(errno));
	(void)TAKE_FD(fd);
	forget(c);
	while ((e = readdir(dir))) {
		end = 0;
		if (sscanf(e->d_name, "pagemap-%u.img%n", &c->pid, &end) != 1 || !end || e->d_name[end])
			continue;
		if (with_pages && bsearch(&c->pid, c->done, with_pages, sizeof(*c->done), compare_pids))
			continue;
		if (rewrite_one(c, err) < 0)
			return -err->code;
	}
	return 0;
}

int lazy_images_rewrite(int images_fd, struct store *s, struct error *err)
{
	struct collect c = { .images_fd = images_fd, .store = s, .eager.store = s };
	int r = store_walk(s, on_extent, &c, err);

	if (r == 0 && c.pid)
		r = rewrite_one(&c, err);
	if (r == 0)
		r = rewrite_rest(&c, err);
	forget(&c);
	free(c.lazy);
	free(c.done);
	return r;
}
