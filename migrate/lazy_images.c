#include <string.h>

#include "criu-glue/pagemap.h"
#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "migrate/lazy_images.h"
#include "proto/pages.h"

#define IMAGE_LIMIT (256u << 20)

/* The address space that is being collected. */
struct collect {
	int images_fd;
	uint32_t pid;
	struct pagemap_range *ranges;
	size_t n, room;
};

static int rewrite_one(struct collect *c, struct error *err)
{
	CLEANUP(freep) char *old = NULL;
	CLEANUP(freep) void *merged = NULL;
	char name[32];
	size_t len, merged_len;

	if (c->n == 0)
		return 0;
	(void)snprintf(name, sizeof(name), "pagemap-%u.img", c->pid);
	if (fd_read_file_at(c->images_fd, name, IMAGE_LIMIT, &old, &len, err) < 0)
		return error_set(err, EPROTO, "memory of process %u came, but no image of it", c->pid);
	if (pagemap_merge(old, len, c->ranges, c->n, &merged, &merged_len, err) < 0 ||
	    fd_replace_file_at(c->images_fd, name, merged, merged_len, 0600, FD_REPLACE, err) < 0)
		return error_wrap(err, "%s", name);
	c->n = 0;
	return 0;
}

static int add(struct collect *c, uint64_t address, uint64_t n_pages, struct error *err)
{
	struct pagemap_range *last = c->n ? &c->ranges[c->n - 1] : NULL, *more;

	if (last && last->address + last->n_pages * STORE_PAGE == address) {
		last->n_pages += n_pages;
		return 0;
	}
	if (c->n == c->room) {
		c->room = c->room ? c->room * 2 : 256;
		more = reallocarray(c->ranges, c->room, sizeof(*more));
		if (!more)
			return error_set(err, ENOMEM, "out of memory");
		c->ranges = more;
	}
	c->ranges[c->n++] = (struct pagemap_range){ .address = address, .n_pages = n_pages };
	return 0;
}

static int on_extent(void *ctx, uint32_t pid, uint64_t address, uint64_t n_pages, uint64_t slot,
		     struct error *err)
{
	struct collect *c = ctx;

	(void)slot;
	if (pages_is_object(pid))
		return 0;
	if (pid != c->pid && rewrite_one(c, err) < 0)
		return -err->code;
	c->pid = pid;
	return add(c, address, n_pages, err);
}

int lazy_images_rewrite(int images_fd, const struct store *s, struct error *err)
{
	struct collect c = { .images_fd = images_fd };
	int r = store_walk(s, on_extent, &c, err);

	if (r == 0)
		r = rewrite_one(&c, err);
	free(c.ranges);
	return r;
}
