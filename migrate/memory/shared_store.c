#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "migrate/memory/shared_store_state.h"
#include "migrate/memory/store.h"
#include "migrate/tmpfs.h"
#include "proto/checksum.h"

int shared_store_new(struct shared_store **ret, struct error *err)
{
	*ret = calloc(1, sizeof(**ret));
	if (!*ret)
		return error_set(err, ENOMEM, "out of memory");
	(*ret)->allocator = (struct shared_allocator)SHARED_ALLOCATOR_EMPTY;
	return 0;
}

int shared_store_new_in(struct store *pages, struct shared_store **ret, struct error *err)
{
	if (shared_store_new(ret, err) < 0)
		return -err->code;
	(*ret)->pages = pages;
	return 0;
}

static void object_free(struct stored_object *o)
{
	fd_close(&o->fd);
	free(o);
}

void shared_store_free(struct shared_store *s)
{
	for (size_t i = 0; s && i < s->n; i++)
		object_free(s->objects[i]);
	if (s)
		shared_allocator_free(&s->allocator);
	free(s);
}

static struct stored_object *find(const struct shared_store *s, uint32_t number)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->objects[i]->number == number)
			return s->objects[i];
	return NULL;
}

static int find_known(const struct shared_store *s, uint32_t number, struct stored_object **ret, struct error *err)
{
	*ret = find(s, number);
	return *ret ? 0 : error_set(err, EPROTO, "pages of a shared object that was not announced");
}

void shared_store_set_tmpfs(struct shared_store *s, const struct tmpfs *tmpfs)
{
	s->tmpfs = tmpfs;
}

void shared_store_set_cgroup(struct shared_store *s, const struct cgroup *cg)
{
	s->allocator.cgroup = cg;
}

/* Without a name, until all of them come. */
static int make_in_tmpfs(const struct shared_store *s, const char *path, int *ret_fd, struct error *err)
{
	int top = -EBADF;

	if (!s->tmpfs)
		return error_set(err, EPROTO, "a file of a tmpfs where there is none");
	if (tmpfs_top(s->tmpfs, path, &top, err) < 0)
		return -err->code;
	*ret_fd = openat(top, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	return *ret_fd < 0 ? error_set(err, errno, "make a file for %.200s: %s", path, strerror(errno)) : 0;
}

/* As CRIU makes it for its kind. */
static int make_in_memory(const struct pages_object *about, int *ret_fd, struct error *err)
{
	const char *name = about->kind == PAGES_SHMEM ? about->name : "godwit-sysv";
	unsigned flags = MFD_CLOEXEC | (about->seals == F_SEAL_SEAL ? 0 : MFD_ALLOW_SEALING);

	if (about->huge_shift)
		flags |= MFD_HUGETLB | about->huge_shift << MAP_HUGE_SHIFT;
	*ret_fd = memfd_create(name, flags);
	if (*ret_fd < 0)
		return error_set(err, errno == EINVAL ? EPROTO : errno, "make shared memory '%.200s'%s: %s", name,
				 about->huge_shift ? " of huge pages" : "", strerror(errno));
	return 0;
}

static int add(struct shared_store *s, uint32_t number, const struct pages_object *about,
	       struct stored_object **ret, struct error *err)
{
	struct stored_object *o;
	int fd = -EBADF;

	if (s->n == SHARED_STORE_OBJECTS_MAX)
		return error_set(err, ENOSPC, "more than %d shared objects", SHARED_STORE_OBJECTS_MAX);
	if (!s->pages && (about->kind == PAGES_FILE ? make_in_tmpfs(s, about->name, &fd, err) :
						      make_in_memory(about, &fd, err)) < 0)
		return -err->code;
	o = calloc(1, sizeof(*o));
	if (!o) {
		fd_close(&fd);
		return error_set(err, ENOMEM, "out of memory");
	}
	*o = (struct stored_object){ .number = number, .about = *about, .fd = fd };
	s->objects[s->n++] = o;
	*ret = o;
	return 0;
}

/* Behind its end the last page has memory that only a mapping reaches. */
static uint64_t pages_of(uint64_t size)
{
	return (size + PAGES_SIZE - 1) / PAGES_SIZE;
}

static int resize(struct shared_store *s, struct stored_object *o, uint64_t size, struct error *err)
{
	uint64_t before = pages_of(o->size), after = pages_of(size);

	if (s->pages)
		return after >= before ? 0 :
		       store_put_zero(s->pages, o->number, after * PAGES_SIZE, before - after, err);
	if (ftruncate(o->fd, (off_t)size) < 0)
		return error_set(err, errno == EINVAL ? EPROTO : errno, "shared memory of %llu bytes: %s",
				 (unsigned long long)size, strerror(errno));
	return 0;
}

int shared_store_object(struct shared_store *s, uint32_t number, uint64_t size,
			const struct pages_object *about, struct error *err)
{
	struct stored_object *o = find(s, number);

	if (o && o->about.kind != about->kind)
		return error_set(err, EPROTO, "a shared object that becomes one of another kind");
	if ((!o && add(s, number, about, &o, err) < 0) || resize(s, o, size, err) < 0)
		return -err->code;
	memcpy(o->about.name, about->name, sizeof(o->about.name));
	o->size = size;
	return 0;
}

/* Huge pages can't be written to, only mapped; and a mapping of some that the machine
 * doesn't have would kill. */
static int put_mapped(const struct stored_object *o, uint64_t offset, const void *data, uint64_t len,
		      struct error *err)
{
	uint64_t unit = o->about.huge_shift ? UINT64_C(1) << o->about.huge_shift : PAGES_SIZE;
	uint64_t start = offset / unit * unit, end = (offset + len + unit - 1) / unit * unit;
	uint8_t *map;

	if (o->about.huge_shift && fallocate(o->fd, FALLOC_FL_KEEP_SIZE, (off_t)start, (off_t)(end - start)) < 0)
		return error_set(err, errno, "shared memory '%.200s': huge pages of %llu KiB: %s; raise "
				 "vm.nr_hugepages here", o->about.name, (unsigned long long)unit >> 10,
				 strerror(errno));
	map = mmap(NULL, end - start, PROT_READ | PROT_WRITE, MAP_SHARED, o->fd, (off_t)start);
	if (map == MAP_FAILED)
		return error_set(err, errno, "map shared memory: %s", strerror(errno));
	memcpy(map + (offset - start), data, len);
	(void)munmap(map, end - start);
	return 0;
}

static int put_written(const struct stored_object *o, uint64_t offset, const uint8_t *data, uint64_t len,
		       struct error *err)
{
	while (len > 0) {
		ssize_t n = pwrite(o->fd, data, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return error_set(err, n ? errno : EIO, "write shared memory: %s", strerror(n ? errno : EIO));
		data += n;
		offset += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

static int put_hole(const struct stored_object *o, uint64_t offset, uint64_t len, struct error *err)
{
	uint64_t unit = o->about.huge_shift ? UINT64_C(1) << o->about.huge_shift : PAGES_SIZE;

	/* zeros in a huge page that has other content */
	if (offset % unit || len % unit) {
		static const uint8_t zeros[PAGES_SIZE];

		for (uint64_t end = offset + len; offset < end; offset += PAGES_SIZE)
			if (put_mapped(o, offset, zeros, PAGES_SIZE, err) < 0)
				return -err->code;
		return 0;
	}
	if (fallocate(o->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len) < 0)
		return error_set(err, errno, "free shared memory: %s", strerror(errno));
	return 0;
}

int shared_store_put(struct shared_store *s, uint32_t number, uint64_t offset, const void *data, uint64_t n,
		     struct error *err)
{
	struct stored_object *o = NULL;
	uint64_t len = n * PAGES_SIZE;

	if (find_known(s, number, &o, err) < 0)
		return -err->code;
	if (offset % PAGES_SIZE || n > pages_of(o->size) || offset / PAGES_SIZE > pages_of(o->size) - n)
		return error_set(err, EPROTO, "pages behind the end of shared memory '%.200s'", o->about.name);
	if (s->pages)
		return data ? store_put(s->pages, number, offset, data, n, err) :
			      store_put_zero(s->pages, number, offset, n, err);
	if (!data)
		return put_hole(o, offset, len, err);
	if (o->about.huge_shift)
		return put_mapped(o, offset, data, len, err);
	if (shared_allocator_take(&s->allocator, o->fd, offset, len, err) < 0)
		return -err->code;
	if (offset + len > o->size)
		return put_mapped(o, offset, data, len, err);
	return put_written(o, offset, data, len, err);
}

int shared_store_drop(struct shared_store *s, uint32_t number, struct error *err)
{
	for (size_t i = 0; i < s->n; i++) {
		if (s->objects[i]->number != number)
			continue;
		object_free(s->objects[i]);
		s->objects[i] = s->objects[--s->n];
		return s->pages ? store_drop(s->pages, number, 0, 1, err) : 0;
	}
	return error_set(err, EPROTO, "a shared object that was not announced goes away");
}

uint64_t shared_store_pages(const struct shared_store *s)
{
	uint64_t pages = 0;
	struct stat st;

	for (size_t i = 0; i < s->n && !s->pages; i++)
		if (fstat(s->objects[i]->fd, &st) == 0)
			pages += (uint64_t)st.st_blocks * 512 / PAGES_SIZE;
	return pages;
}

/* Read, not mapped: that would take huge pages for holes. */
static int hash_data(const struct stored_object *o, uint64_t at, uint64_t end, struct checksum *sum, struct error *err)
{
	uint8_t page[PAGES_SIZE];

	for (; at < end; at += PAGES_SIZE) {
		ssize_t n = pread(o->fd, page, sizeof(page), (off_t)at);

		if (n < 0)
			return error_set(err, errno, "read shared memory: %s", strerror(errno));
		memset(page + n, 0, sizeof(page) - (size_t)n);
		store_hash_page(sum, at, page);
	}
	return 0;
}

int shared_store_hash(const struct shared_store *s, uint32_t number, uint64_t *ret, struct error *err)
{
	CLEANUP(checksum_freep) struct checksum *sum = NULL;
	struct stored_object *o = NULL;
	off_t at = 0, end = 0;

	if (s->pages)
		return store_hash(s->pages, number, ret, err);
	if (find_known(s, number, &o, err) < 0 || checksum_new(&sum, err) < 0)
		return -err->code;
	while ((at = lseek(o->fd, end, SEEK_DATA)) >= 0 && (end = lseek(o->fd, at, SEEK_HOLE)) >= 0)
		if (hash_data(o, (uint64_t)at, (uint64_t)end, sum, err) < 0)
			return -err->code;
	if (errno != ENXIO)
		return error_set(err, errno, "find data: %s", strerror(errno));
	*ret = checksum_value(sum);
	return 0;
}

const char *shared_store_name(const struct shared_store *s, uint32_t number)
{
	const struct stored_object *o = find(s, number);

	return o ? o->about.name : "";
}

uint32_t shared_store_number(const struct shared_store *s, uint64_t inode)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->objects[i]->about.kind != PAGES_FILE && s->objects[i]->about.inode == inode)
			return s->objects[i]->number;
	return 0;
}

int shared_store_make_room(struct shared_store *s, int fd, uint64_t offset, uint64_t len, struct error *err)
{
	return shared_allocator_take(&s->allocator, fd, offset, len, err);
}

int shared_store_link(const struct shared_store *s, const char *path, int parent_fd, const char *name,
		      struct error *err)
{
	for (size_t i = 0; i < s->n; i++) {
		const struct stored_object *o = s->objects[i];

		if (o->about.kind != PAGES_FILE || o->fd < 0 || strcmp(o->about.name, path) != 0)
			continue;
		if (linkat(o->fd, "", parent_fd, name, AT_EMPTY_PATH) < 0)
			return error_set(err, errno, "link: %s", strerror(errno));
		return 1;
	}
	return 0;
}

/* CRIU's task, which sets the owner that it had, is root inside. */
static int give_inside(const struct userns *ids, int fd, size_t nth, struct error *err)
{
	if (nth == PREPARED_INSIDE_MAX)
		return error_set(err, E2BIG, "more than %d shared objects, in a container with ids of its own",
				 PREPARED_INSIDE_MAX);
	return fchown(fd, id_map_host(&ids->uids, 0), id_map_host(&ids->gids, 0)) < 0 ?
		error_set(err, errno, "shared memory: chown: %s", strerror(errno)) : 0;
}

int shared_store_prepare(struct shared_store *s, struct prepared *list, struct error *err)
{
	const struct userns *ids = s && s->tmpfs ? s->tmpfs->ids : NULL;
	size_t n = 0;

	if (s)
		shared_allocator_free(&s->allocator);
	for (size_t i = 0; s && i < s->n; i++) {
		const struct stored_object *o = s->objects[i];
		const struct prepared_memory m = { .id = o->about.inode, .size = o->size, .fd = o->fd,
						   .sysv = o->about.kind == PAGES_SYSV,
						   .huge_shift = o->about.huge_shift };

		if (!o->size || o->about.kind == PAGES_FILE)
			continue;
		if (ids && userns_is_own(ids) && give_inside(ids, o->fd, n++, err) < 0)
			return -err->code;
		if (prepared_add(list, &m, err) < 0)
			return -err->code;
	}
	return 0;
}
