#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>

#include "engine/mounts.h"
#include "migrate/memory/store_state.h"
#include "proto/checksum.h"
#include "proto/pages.h"

#define ADDRESS_MAX (1ull << 57)
_Static_assert(STORE_PAGES_MAX < PAGE_ZERO, "every slot has a number");
#define SPACES_MAX 65536u

/* Chunks are paid for by pages, but for a few. */
#define SPARE_CHUNKS 65536u

_Static_assert(PAGES_PART_BYTES == STORE_PAGE * CHUNK_PAGES, "a chunk comes over one connection");

#define WRITE_BYTES (32u << 20)

static int make(int fd_consumed, uint64_t max_pages, struct store **ret, struct error *err)
{
	CLEANUP(fd_closep) int fd = fd_consumed;
	struct store *s;

	if (max_pages == 0 || max_pages > STORE_PAGES_MAX)
		return error_set(err, EINVAL, "a page store of %llu pages: at most %u",
				 (unsigned long long)max_pages, STORE_PAGES_MAX);
	s = calloc(1, sizeof(*s));
	if (!s)
		return error_set(err, ENOMEM, "no memory for a page store");
	s->lock = malloc(sizeof(*s->lock));
	if (!s->lock || pthread_mutex_init(s->lock, NULL) != 0) {
		free(s->lock);
		free(s);
		return error_set(err, ENOMEM, "no memory for a page store");
	}
	s->max_pages = max_pages;
	s->fd = TAKE_FD(fd);
	*ret = s;
	return 0;
}

int store_new_in(int fd_consumed, uint64_t max_pages, struct store **ret, struct error *err)
{
	return make(fd_consumed, max_pages, ret, err);
}

/* A file of a tmpfs of its own takes what is appended in folios as large as what is
 * written, where the kernel can (6.14 or newer). */
static int memory_file(void)
{
	CLEANUP(fd_closep) int mount = -EBADF;
	struct error ignored;
	int fd = -1;

	if (mounts_make_fs("tmpfs", "mode=0700,size=0,nr_inodes=0,huge=within_size",
			   MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, &mount, &ignored) == 0)
		fd = openat(mount, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	return fd >= 0 ? fd : memfd_create("godwit-pages", MFD_CLOEXEC);
}

int store_new(uint64_t max_pages, struct store **ret, struct error *err)
{
	CLEANUP(store_freep) struct store *s = NULL;
	int fd = memory_file();
	void *map;

	if (fd < 0)
		return error_set(err, errno, "page store: a file in memory: %s", strerror(errno));
	if (make(fd, max_pages, &s, err) < 0)
		return -err->code;
	s->len = max_pages * STORE_PAGE;		/* the file grows as it is written */
	map = mmap(NULL, s->len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, s->fd, 0);
	if (map == MAP_FAILED)
		return error_set(err, errno, "page store: map %zu bytes: %s", s->len,
				 strerror(errno));
	s->map = map;
	*ret = TAKE_PTR(s);
	return 0;
}

void store_free(struct store *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n_spaces; i++)
		page_index_clear(&s->spaces[i].index);
	if (s->map)
		(void)munmap(s->map, s->len);
	fd_close(&s->fd);
	free(s->spaces);
	free(s->freed);
	free(s->sums);
	(void)pthread_mutex_destroy(s->lock);
	free(s->lock);
	free(s);
}

/* The first space whose pid is not smaller. */
static size_t space_place(const struct store *s, uint32_t pid)
{
	size_t low = 0, high = s->n_spaces;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (s->spaces[middle].pid < pid)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct space *store_space(const struct store *s, uint32_t pid)
{
	size_t i = space_place(s, pid);

	return i < s->n_spaces && s->spaces[i].pid == pid ? &s->spaces[i] : NULL;
}

static int space_get(struct store *s, uint32_t pid, struct space **ret, struct error *err)
{
	size_t i = space_place(s, pid);

	if (i == s->n_spaces || s->spaces[i].pid != pid) {
		if (s->n_spaces == SPACES_MAX)
			return error_set(err, ENOSPC, "more than %u address spaces", SPACES_MAX);
		if (s->n_spaces == s->spaces_size) {
			size_t size = s->spaces_size ? 2 * s->spaces_size : 16;
			struct space *more = reallocarray(s->spaces, size, sizeof(*more));

			if (!more)
				return error_set(err, ENOMEM, "no memory for %zu address spaces",
						 size);
			s->spaces = more;
			s->spaces_size = size;
		}
		memmove(&s->spaces[i + 1], &s->spaces[i], (s->n_spaces - i) * sizeof(*s->spaces));
		s->spaces[i] = (struct space){ .pid = pid };
		s->n_spaces++;
	}
	*ret = &s->spaces[i];
	return 0;
}

int store_check_range(const struct store *s, uint32_t pid, uint64_t address, uint64_t n,
		       struct error *err)
{
	if (s->sealed)
		return error_set(err, EINVAL, "the page store is complete already");
	if (address % STORE_PAGE || address >= ADDRESS_MAX || n == 0 ||
	    n > (ADDRESS_MAX - address) / STORE_PAGE)
		return error_set(err, EPROTO, "%llu pages at 0x%llx of process %u are no memory",
				 (unsigned long long)n, (unsigned long long)address, pid);
	return 0;
}

/* The chunk, new ones without pages. *ret_new tells which. */
static int chunk_get(struct store *s, struct space *space, uint64_t number,
		     struct page_chunk **ret, bool *ret_new, struct error *err)
{
	struct page_chunk *chunk = page_index_find(&space->index, number);

	*ret_new = !chunk;
	if (!chunk) {
		if (s->n_chunks >= s->max_pages + SPARE_CHUNKS)
			return error_set(err, ENOSPC, "memory at more than %zu places",
					 s->n_chunks);
		if (page_index_add(&space->index, number, &chunk, err) < 0)
			return -err->code;
		s->n_chunks++;
	}
	*ret = chunk;
	return 0;
}

/* As chunk_get, with its table of pages. */
static int chunk_get_pages(struct store *s, struct space *space, uint64_t number,
			   struct page_chunk **ret, struct error *err)
{
	bool is_new;

	if (chunk_get(s, space, number, ret, &is_new, err) < 0)
		return -err->code;
	if ((*ret)->pages)
		return 0;
	return page_chunk_expand(*ret, is_new ? PAGE_UNKNOWN : PAGE_ZERO, err);
}

/* The slot that is next, without taking it; -1 when all are taken. */
static int64_t slot_peek(const struct store *s)
{
	if (s->n_freed)
		return s->freed[s->n_freed - 1];
	return s->n_slots < s->max_pages ? (int64_t)s->n_slots : -1;
}

static void slot_take(struct store *s)
{
	if (s->n_freed)
		s->n_freed--;
	else
		s->n_slots++;
}

int store_free_slots(struct store *s, uint32_t *pages, size_t n, uint32_t becomes,
		      struct error *err)
{
	if (s->freed_size < s->n_freed + n) {
		size_t size = 2 * s->freed_size + 2 * CHUNK_PAGES;
		uint32_t *more = reallocarray(s->freed, size, sizeof(*more));

		if (!more)
			return error_set(err, ENOMEM, "no memory for a list of %zu slots", size);
		s->freed = more;
		s->freed_size = size;
	}
	/* backwards, so that neighbours are neighbours when they are taken again */
	for (size_t i = n; i-- > 0;) {
		if (page_is_slot(pages[i]))
			s->freed[s->n_freed++] = (pages[i] & ~PAGE_KEEP) - 1;
		pages[i] = becomes;
	}
	return 0;
}

/* Slots for 1 to n pages from address on, *ret_n, that are neighbours. */
static int place(struct store *s, uint32_t pid, uint64_t address, size_t n, uint64_t *ret_slot,
		 size_t *ret_n, struct error *err)
{
	struct page_chunk *chunk = NULL;
	struct space *space;
	int64_t first = -1;
	size_t i;

	if (store_check_range(s, pid, address, n, err) < 0 || space_get(s, pid, &space, err) < 0)
		return -err->code;
	for (i = 0; i < n; i++) {
		uint64_t page = address / STORE_PAGE + i;
		uint32_t *entry;
		int64_t slot;

		if ((i == 0 || page % CHUNK_PAGES == 0) &&
		    chunk_get_pages(s, space, page / CHUNK_PAGES, &chunk, err) < 0)
			return -err->code;
		entry = &chunk->pages[page % CHUNK_PAGES];
		slot = page_is_slot(*entry) ? (int64_t)*entry - 1 : slot_peek(s);
		if (i > 0 && slot != first + (int64_t)i)
			break;
		if (slot < 0)
			return error_set(err, ENOSPC, "no room for more than %llu pages of memory",
					 (unsigned long long)s->max_pages);
		if (i == 0)
			first = slot;
		if (page_is_slot(*entry))
			s->overwritten++;
		else
			slot_take(s);
		*entry = (uint32_t)slot + 1;
	}
	*ret_slot = (uint64_t)first;
	*ret_n = i;
	return 0;
}

static int sum_pages(struct store *s, uint64_t slot, const uint8_t *pages, size_t n, struct error *err)
{
	if (slot + n > s->sums_size) {
		size_t size = 2 * s->sums_size > slot + n ? 2 * s->sums_size : 2 * (slot + n);
		uint64_t *more = reallocarray(s->sums, size, sizeof(*more));

		if (!more)
			return error_set(err, ENOMEM, "no memory for the sums of %zu pages", size);
		s->sums = more;
		s->sums_size = size;
	}
	for (size_t i = 0; i < n; i++)
		s->sums[slot + i] = checksum_of(0, pages + i * STORE_PAGE, STORE_PAGE);
	return 0;
}

/* The disk works while more is being read, and neither side waits for the other
 * long. sync_file_range(2) */
static void begin_to_write(struct store *s, size_t len)
{
	s->unwritten += len;
	if (s->unwritten < WRITE_BYTES)
		return;
	s->unwritten = 0;
	(void)sync_file_range(s->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

/* Not through the mapping: memory that is new is not cleared, mapped and faulted in
 * first, and a full disk is an error. */
static int fill(struct store *s, uint64_t slot, const uint8_t *from, size_t n_pages, struct error *err)
{
	off_t to = (off_t)(slot * STORE_PAGE);
	size_t len = n_pages * STORE_PAGE;

	if (!s->map && sum_pages(s, slot, from, n_pages, err) < 0)
		return -err->code;
	while (len > 0) {
		ssize_t n = pwrite(s->fd, from, len, to);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return error_set(err, n ? errno : EIO, "write to the page store: %s",
					 strerror(n ? errno : EIO));
		to += n;
		from += n;
		len -= (size_t)n;
	}
	if (!s->map)
		begin_to_write(s, n_pages * STORE_PAGE);
	return 0;
}

static int place_locked(struct store *s, uint32_t pid, uint64_t address, size_t n, uint64_t *ret_slot,
			size_t *ret_n, struct error *err)
{
	int r;

	(void)pthread_mutex_lock(s->lock);
	r = place(s, pid, address, n, ret_slot, ret_n, err);
	(void)pthread_mutex_unlock(s->lock);
	return r;
}

int store_put(struct store *s, uint32_t pid, uint64_t address, const void *data, size_t n,
	      struct error *err)
{
	const uint8_t *from = data;

	if (store_check_range(s, pid, address, n, err) < 0)
		return -err->code;
	while (n > 0) {
		uint64_t slot = 0;
		size_t some = 0;

		if (place_locked(s, pid, address, n, &slot, &some, err) < 0 || fill(s, slot, from, some, err) < 0)
			return -err->code;
		from += some * STORE_PAGE;
		address += some * STORE_PAGE;
		n -= some;
	}
	return 0;
}

int store_adopt(struct store *s, uint32_t pid, uint64_t address, uint64_t n, uint64_t slot,
		struct error *err)
{
	struct page_chunk *chunk = NULL;
	struct space *space;

	if (store_check_range(s, pid, address, n, err) < 0 || space_get(s, pid, &space, err) < 0)
		return -err->code;
	for (uint64_t i = 0; i < n; i++) {
		uint64_t page = address / STORE_PAGE + i;

		if ((i == 0 || page % CHUNK_PAGES == 0) &&
		    chunk_get_pages(s, space, page / CHUNK_PAGES, &chunk, err) < 0)
			return -err->code;
		chunk->pages[page % CHUNK_PAGES] = (uint32_t)(slot + i) + 1;
	}
	return 0;
}

/* Pages [from, to) of one chunk. */
static int chunk_zero(struct store *s, struct space *space, uint64_t number, size_t from,
		      size_t to, struct error *err)
{
	struct page_chunk *chunk = NULL;
	bool is_new;

	if (chunk_get(s, space, number, &chunk, &is_new, err) < 0)
		return -err->code;
	if (is_new && to - from < CHUNK_PAGES && page_chunk_expand(chunk, PAGE_UNKNOWN, err) < 0)
		return -err->code;
	if (!chunk->pages)
		return 0;
	if (store_free_slots(s, chunk->pages + from, to - from, PAGE_ZERO, err) < 0)
		return -err->code;
	if (to - from == CHUNK_PAGES) {
		free(chunk->pages);
		chunk->pages = NULL;
	}
	return 0;
}

static int put_zero(struct store *s, uint32_t pid, uint64_t address, uint64_t n, struct error *err)
{
	uint64_t page = address / STORE_PAGE, end = page + n;
	struct space *space;

	if (store_check_range(s, pid, address, n, err) < 0 || space_get(s, pid, &space, err) < 0)
		return -err->code;
	while (page < end) {
		uint64_t number = page / CHUNK_PAGES, next = (number + 1) * CHUNK_PAGES;
		size_t from = page % CHUNK_PAGES;
		size_t to = next < end ? CHUNK_PAGES : (size_t)(end - number * CHUNK_PAGES);

		if (chunk_zero(s, space, number, from, to, err) < 0)
			return -err->code;
		page = next;
	}
	return 0;
}

int store_put_zero(struct store *s, uint32_t pid, uint64_t address, uint64_t n, struct error *err)
{
	int r;

	(void)pthread_mutex_lock(s->lock);
	r = put_zero(s, pid, address, n, err);
	(void)pthread_mutex_unlock(s->lock);
	return r;
}

/* What is known of the chunk is that nothing is. */
static int chunk_drop(struct store *s, struct page_chunk *chunk, struct error *err)
{
	if (!chunk->pages)
		return page_chunk_expand(chunk, PAGE_UNKNOWN, err);
	return store_free_slots(s, chunk->pages, CHUNK_PAGES, PAGE_UNKNOWN, err);
}

static int drop(struct store *s, uint32_t pid, unsigned part, unsigned parts, struct error *err)
{
	struct space *space = store_space(s, pid);

	if (s->sealed)
		return error_set(err, EINVAL, "the page store is complete already");
	if (!space)
		return 0;
	for (size_t i = space->index.n; i-- > 0;) {
		struct page_chunk *chunk = &space->index.chunks[i];

		if (pages_connection(pid, chunk->number * CHUNK_PAGES * STORE_PAGE, parts) == part &&
		    (chunk->pages || parts > 1) && chunk_drop(s, chunk, err) < 0)
			return -err->code;
	}
	if (parts > 1)
		return 0;
	s->n_chunks -= space->index.n;
	page_index_clear(&space->index);
	space->populated_end = 0;
	return 0;
}

int store_drop(struct store *s, uint32_t pid, unsigned part, unsigned parts, struct error *err)
{
	int r;

	(void)pthread_mutex_lock(s->lock);
	r = drop(s, pid, part, parts, err);
	(void)pthread_mutex_unlock(s->lock);
	return r;
}

struct store_stats store_stats(const struct store *s)
{
	struct store_stats stats;

	(void)pthread_mutex_lock(s->lock);
	stats = (struct store_stats){ .pages = s->n_slots - s->n_freed, .overwritten = s->overwritten };
	(void)pthread_mutex_unlock(s->lock);
	return stats;
}

uint64_t store_max_pages(const struct store *s)
{
	return s->max_pages;
}
