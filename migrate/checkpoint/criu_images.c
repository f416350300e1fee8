#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "criu-glue/criu.h"
#include "engine/base/fd.h"
#include "migrate/checkpoint/criu_images.h"
#include "migrate/checkpoint/page_assembly.h"
#include "proto/pages.h"

#define IMAGE_LIMIT (256u << 20)

static int note_extent(void *ctx, uint32_t pid, uint64_t address, uint64_t n_pages, uint64_t slot,
		       struct error *err)
{
	(void)pid;
	return page_assembly_add(ctx, address, n_pages, slot, err);
}

static int assemble(int images_fd, const struct store *s, int to_fd, uint32_t space, const char *name,
		    struct error *err)
{
	CLEANUP(page_assembly_clear) struct page_assembly a = { .store = s };
	CLEANUP(freep) char *old = NULL;
	CLEANUP(freep) void *made = NULL;
	size_t len, made_len;

	if (fd_read_file_at(images_fd, name, IMAGE_LIMIT, &old, &len, err) < 0 ||
	    store_walk_space(s, space, note_extent, &a, err) < 0 ||
	    page_assembly_write(&a, images_fd, to_fd, old, len, &made, &made_len, err) < 0 ||
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
