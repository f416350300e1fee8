#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "migrate/memory/store_file.h"
#include "migrate/memory/store_state.h"
#include "proto/checksum.h"
#include "proto/pages.h"

/* The first that is unknown. */
static size_t chunk_unknown(const struct page_chunk *chunk)
{
	size_t i = 0;

	while (i < CHUNK_PAGES && chunk->pages[i] != PAGE_UNKNOWN)
		i++;
	return i;
}

/* Marks pages [from, to) of a chunk; the first that is unknown, or to. */
static size_t chunk_keep(struct page_chunk *chunk, size_t from, size_t to)
{
	if (!chunk)
		return from;
	if (!chunk->pages)
		return to;
	if (to - from == CHUNK_PAGES) {
		size_t unknown = chunk_unknown(chunk);

		chunk->kept = unknown == CHUNK_PAGES;
		return unknown;
	}
	for (; from < to && chunk->pages[from] != PAGE_UNKNOWN; from++)
		chunk->pages[from] |= PAGE_KEEP;
	return from;
}

int store_populated(struct store *s, uint32_t pid, uint64_t start, uint64_t end, struct error *err)
{
	uint64_t page = start / STORE_PAGE, last = end / STORE_PAGE;
	struct space *space = store_space(s, pid);

	if (end % STORE_PAGE || end < start)
		return error_set(err, EPROTO, "0x%llx to 0x%llx of process %u is no memory",
				 (unsigned long long)start, (unsigned long long)end, pid);
	if (store_check_range(s, pid, start, last - page, err) < 0)
		return -err->code;
	if (space && start < space->populated_end)
		return error_set(err, EPROTO, "memory of process %u is not told in order", pid);
	while (page < last) {
		uint64_t number = page / CHUNK_PAGES, next = (number + 1) * CHUNK_PAGES;
		uint64_t base = number * CHUNK_PAGES;
		size_t to = next < last ? CHUNK_PAGES : (size_t)(last - base), reached;

		reached = chunk_keep(space ? page_index_find(&space->index, number) : NULL,
				     page % CHUNK_PAGES, to);
		if (reached < to) {
			unsigned long long missing = (base + reached) * STORE_PAGE;

			return error_set(err, EPROTO, "page 0x%llx of process %u never came", missing, pid);
		}
		page = next;
	}
	space->populated_end = end;
	return 0;
}

static int seal_chunk(struct store *s, struct page_chunk *chunk, struct error *err)
{
	for (size_t i = 0; chunk->pages && !chunk->kept && i < CHUNK_PAGES; i++) {
		if (chunk->pages[i] & PAGE_KEEP)
			chunk->pages[i] &= ~PAGE_KEEP;
		else if (store_free_slots(s, &chunk->pages[i], 1, PAGE_UNKNOWN, err) < 0)
			return -err->code;
	}
	return 0;
}

int store_seal(struct store *s, struct error *err)
{
	for (size_t i = 0; i < s->n_spaces; i++) {
		struct page_index *index = &s->spaces[i].index;

		/* what a shared object has is told by what came of it alone */
		for (size_t k = 0; k < index->n && !pages_is_object(s->spaces[i].pid); k++)
			if (seal_chunk(s, &index->chunks[k], err) < 0)
				return -err->code;
	}
	store_close(s);
	return 0;
}

void store_close(struct store *s)
{
	for (size_t i = 0; i < s->n_spaces; i++)
		page_index_sort(&s->spaces[i].index);
	s->sealed = true;
}

struct extent {
	uint64_t address, n, slot;
};

/* Of n pages, how many from the first on are in slots one behind the other; 1 for one
 * that has none. */
static size_t neighbours(const uint32_t *pages, size_t n)
{
	size_t i = 1;

	while (page_is_slot(pages[0]) && i < n && pages[i] == pages[0] + i && page_is_slot(pages[i]))
		i++;
	return i;
}

static int walk_space(const struct space *space, store_extent_fn visit, void *ctx,
		      struct error *err)
{
	struct extent run = { .n = 0 };

	for (size_t i = 0; i < space->index.n; i++) {
		const struct page_chunk *chunk = &space->index.chunks[i];

		for (size_t k = 0, n; chunk->pages && k < CHUNK_PAGES; k += n) {
			uint64_t address = (chunk->number * CHUNK_PAGES + k) * STORE_PAGE;
			uint64_t slot = chunk->pages[k] - 1;

			n = neighbours(chunk->pages + k, CHUNK_PAGES - k);
			if (!page_is_slot(chunk->pages[k]))
				continue;
			if (run.n && address == run.address + run.n * STORE_PAGE &&
			    slot == run.slot + run.n) {
				run.n += n;
				continue;
			}
			if (run.n && visit(ctx, space->pid, run.address, run.n, run.slot, err) < 0)
				return -err->code;
			run = (struct extent){ address, n, slot };
		}
	}
	return run.n ? visit(ctx, space->pid, run.address, run.n, run.slot, err) : 0;
}

static int check_sealed(const struct store *s, struct error *err)
{
	return s->sealed ? 0 : error_set(err, EINVAL, "the page store is not complete yet");
}

int store_walk(const struct store *s, store_extent_fn visit, void *ctx, struct error *err)
{
	if (check_sealed(s, err) < 0)
		return -err->code;
	for (size_t i = 0; i < s->n_spaces; i++)
		if (walk_space(&s->spaces[i], visit, ctx, err) < 0)
			return -err->code;
	return 0;
}

int store_walk_space(const struct store *s, uint32_t pid, store_extent_fn visit, void *ctx,
		     struct error *err)
{
	const struct space *space = store_space(s, pid);

	if (check_sealed(s, err) < 0)
		return -err->code;
	return space ? walk_space(space, visit, ctx, err) : 0;
}

int store_take_out(struct store *s, uint32_t pid, uint64_t address, uint64_t n, struct error *err)
{
	const struct space *space = store_space(s, pid);
	uint64_t page = address / STORE_PAGE;

	if (check_sealed(s, err) < 0)
		return -err->code;
	for (uint64_t end = page + n; space && page < end; page++) {
		const struct page_chunk *chunk = page_index_find(&space->index, page / CHUNK_PAGES);

		if (chunk && chunk->pages &&
		    store_free_slots(s, &chunk->pages[page % CHUNK_PAGES], 1, PAGE_UNKNOWN, err) < 0)
			return -err->code;
	}
	return 0;
}

uint64_t store_slots(const struct store *s)
{
	return s->n_slots;
}

int store_fd(const struct store *s)
{
	return s->fd;
}

static int damaged(uint64_t slot, const char *why, struct error *err)
{
	return error_set(err, EBADMSG, "memory/" STORE_PAGES " is damaged at byte %llu: %s",
			 (unsigned long long)slot * STORE_PAGE, why);
}

static int read_slots(const struct store *s, uint64_t slot, size_t n, uint8_t *room, struct error *err)
{
	size_t len = n * STORE_PAGE, done = 0;

	while (done < len) {
		ssize_t r = pread(s->fd, room + done, len - done, (off_t)(slot * STORE_PAGE + done));

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return error_set(err, errno, "read memory/" STORE_PAGES ": %s", strerror(errno));
		if (r == 0)
			return damaged(slot + done / STORE_PAGE, "it ends there", err);
		done += (size_t)r;
	}
	return 0;
}

int store_read(const struct store *s, uint64_t slot, size_t n, void *room, const void **ret_data,
	       struct error *err)
{
	if (s->map) {
		*ret_data = s->map + slot * STORE_PAGE;
		return 0;
	}
	if (read_slots(s, slot, n, room, err) < 0)
		return -err->code;
	for (size_t i = 0; i < n; i++)
		if (checksum_of(0, (uint8_t *)room + i * STORE_PAGE, STORE_PAGE) != s->sums[slot + i])
			return damaged(slot + i, "a page has changed", err);
	*ret_data = room;
	return 0;
}

void store_forget(const struct store *s, uint64_t slot, uint64_t n)
{
	if (!s->map)
		return;
	(void)fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			(off_t)(slot * STORE_PAGE), (off_t)(n * STORE_PAGE));
}

static bool is_zero(const uint64_t *words)
{
	for (size_t i = 0; i < STORE_PAGE / sizeof(*words); i++)
		if (words[i])
			return false;
	return true;
}

void store_hash_page(struct checksum *sum, uint64_t address, const void *page)
{
	uint64_t little = htole64(address);

	if (is_zero(page))
		return;
	checksum_update(sum, &little, sizeof(little));
	checksum_update(sum, page, STORE_PAGE);
}

struct hashing {
	const struct store *store;
	struct checksum *sum;
};

static int hash_extent(void *ctx, uint32_t pid, uint64_t address, uint64_t n, uint64_t slot,
		       struct error *err)
{
	const struct hashing *h = ctx;
	uint8_t room[STORE_PAGE];

	(void)pid;
	for (uint64_t i = 0; i < n; i++) {
		const void *page;

		if (store_read(h->store, slot + i, 1, room, &page, err) < 0)
			return -err->code;
		store_hash_page(h->sum, address + i * STORE_PAGE, page);
	}
	return 0;
}

int store_hash(const struct store *s, uint32_t pid, uint64_t *ret, struct error *err)
{
	CLEANUP(checksum_freep) struct checksum *sum = NULL;

	if (checksum_new(&sum, err) < 0 ||
	    store_walk_space(s, pid, hash_extent, &(struct hashing){ s, sum }, err) < 0)
		return -err->code;
	*ret = checksum_value(sum);
	return 0;
}
