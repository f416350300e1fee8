#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "engine/base/clock.h"
#include "migrate/memory/shared_state.h"
#include "proto/checksum.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22		/* Linux 5.14 */
#endif

static size_t words_of(uint64_t bits)
{
	return (bits + 63) / 64;
}

/* Memory that is zero, without any behind it before it is written. */
static void *reserve(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static void release(void *list, size_t bytes)
{
	if (list)
		(void)munmap(list, bytes);
}

static void forget_tables(struct shared_object *o)
{
	release(o->sums, o->n_pages * sizeof(*o->sums));
	release(o->used, shared_chunks(o->n_pages));
	release(o->changed, words_of(o->n_pages) * sizeof(*o->changed));
	release((void *)(uintptr_t)o->view, o->view_len);
	o->sums = o->changed = NULL;
	o->used = NULL;
	o->view = NULL;
}

void shared_object_free(struct shared_object *o)
{
	forget_tables(o);
	fd_close(&o->fd);
	free(o);
}

/* Huge pages are never mapped: reading a hole would take one away from others. */
static void map_view(struct shared_object *o)
{
	void *view;

	if (o->about.huge_shift)
		return;
	o->view_len = o->n_pages * PAGES_SIZE;
	view = mmap(NULL, o->view_len, PROT_READ, MAP_SHARED | MAP_NORESERVE, o->fd, 0);
	o->view = view == MAP_FAILED ? NULL : view;
}

/* The tables of another size, with what both have. */
static int change_tables(struct shared_object *o, uint64_t n_pages, struct error *err)
{
	struct shared_object old = *o;
	uint64_t both = n_pages < old.n_pages ? n_pages : old.n_pages;

	o->n_pages = n_pages;
	o->changed = NULL;
	o->view = NULL;
	o->sums = reserve(n_pages * sizeof(*o->sums));
	o->used = reserve(shared_chunks(n_pages));
	o->changed = reserve(words_of(n_pages) * sizeof(*o->changed));
	if (!o->sums || !o->used || !o->changed) {
		forget_tables(&old);
		return error_set(err, ENOMEM, "no memory for the sums of %llu pages", (unsigned long long)n_pages);
	}
	for (uint64_t chunk = 0, at = 0; at < both; chunk++, at += SHARED_CHUNK_PAGES) {
		uint64_t n = both - at < SHARED_CHUNK_PAGES ? both - at : SHARED_CHUNK_PAGES;

		if (!old.used[chunk])
			continue;
		o->used[chunk] = 1;
		memcpy(o->sums + at, old.sums + at, n * sizeof(*o->sums));
	}
	forget_tables(&old);
	return 0;
}

int shared_object_resize(struct shared_object *o, struct error *err)
{
	struct stat st;
	uint64_t n_pages;

	if (fstat(o->fd, &st) < 0)
		return error_set(err, errno, "%s: %s", o->about.name, strerror(errno));
	n_pages = ((uint64_t)st.st_size + PAGES_SIZE - 1) / PAGES_SIZE;
	n_pages += n_pages == 0;
	if (n_pages > PAGES_ADDRESS_END / PAGES_SIZE)
		return error_set(err, EFBIG, "%s: %llu pages", o->about.name, (unsigned long long)n_pages);
	o->size = (uint64_t)st.st_size;
	if (n_pages == o->n_pages && o->sums)
		return 0;
	if (change_tables(o, n_pages, err) < 0)
		return -err->code;
	map_view(o);
	return 0;
}

static bool is_zero(const uint8_t *page)
{
	return page[0] == 0 && !memcmp(page, page + 1, PAGES_SIZE - 1);
}

uint64_t shared_page_sum(const struct shared *s, const uint8_t *page)
{
	uint64_t sum = checksum_of(0, page, PAGES_SIZE);

	if (sum == s->zero_sum && is_zero(page))
		return 0;
	return sum ? sum : 1;
}

/* hugetlbfs knows of no holes, so all of it is data there. */
int shared_next_data(const struct shared_object *o, uint64_t *offset, uint64_t *ret_len,
		     struct error *err)
{
	uint64_t all = o->n_pages * PAGES_SIZE;
	off_t data = *offset < o->size ? lseek(o->fd, (off_t)*offset, SEEK_DATA) : -1, hole;

	if (*offset >= o->size || (data < 0 && errno == ENXIO))
		return 0;
	hole = data < 0 ? -1 : lseek(o->fd, data, SEEK_HOLE);
	if (hole < 0 && errno == ENXIO)		/* it has become shorter meanwhile */
		return 0;
	if (hole < 0)
		return error_set(err, errno, "%s: find data: %s", o->about.name, strerror(errno));
	*offset = (uint64_t)data / PAGES_SIZE * PAGES_SIZE;
	hole = (hole + PAGES_SIZE - 1) / PAGES_SIZE * PAGES_SIZE;
	*ret_len = ((uint64_t)hole < all ? (uint64_t)hole : all) - *offset;
	return 1;
}

int shared_object_read(const struct shared_object *o, uint64_t page, uint8_t *to, size_t n,
		       struct error *err)
{
	size_t want = n * PAGES_SIZE, len = 0;

	while (len < want) {
		ssize_t got = pread(o->fd, to + len, want - len, (off_t)(page * PAGES_SIZE + len));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return error_set(err, errno, "%s: read: %s", o->about.name, strerror(errno));
		if (got == 0)
			break;
		len += (size_t)got;
	}
	memset(to + len, 0, want - len);
	return 0;
}

/* n pages from the first on have these sums now; those that are new go out in runs
 * of pages and of holes. data NULL: all are holes. */
static int send_runs(const struct shared_object *o, const struct shared_sink *sink, uint64_t first,
		     const uint8_t *data, const bool *is_new, size_t n, struct error *err)
{
	for (size_t i = 0, run; i < n; i += run) {
		bool hole = o->sums[first + i] == 0;

		for (run = 1; i + run < n && is_new[i + run] == is_new[i] &&
			      (o->sums[first + i + run] == 0) == hole;)
			run++;
		if (is_new[i] && sink->pages(sink->ctx, o->number, (first + i) * PAGES_SIZE,
					     hole ? NULL : data + i * PAGES_SIZE, run, err) < 0)
			return -err->code;
	}
	return 0;
}

/* Pages [first, first + n) are a hole now. */
static int pass_hole(struct shared_object *o, const struct shared_sink *sink, uint64_t first, uint64_t end,
		     uint64_t *changed, struct error *err)
{
	while (first < end) {
		uint64_t chunk = first / SHARED_CHUNK_PAGES, next = (chunk + 1) * SHARED_CHUNK_PAGES;
		uint64_t to = next < end ? next : end, run = 0;

		for (uint64_t page = first; o->used[chunk] && page <= to; page++) {
			bool there = page < to && o->sums[page];

			run += there;
			if (there) {
				o->sums[page] = 0;
			} else if (run) {
				if (sink->pages(sink->ctx, o->number, (page - run) * PAGES_SIZE, NULL, run, err) < 0)
					return -err->code;
				*changed += run;
				run = 0;
			}
		}
		first = to;
	}
	return 0;
}

static int pass_piece(struct shared *s, struct shared_object *o, const struct shared_sink *sink,
		      uint64_t first, size_t n, uint64_t *changed, struct error *err)
{
	bool is_new[SHARED_PIECE_PAGES];
	uint64_t t0 = clock_us(), before = *changed;

	if (shared_object_read(o, first, s->piece, n, err) < 0)
		return -err->code;
	for (size_t i = 0; i < n; i++) {
		uint64_t sum = shared_page_sum(s, s->piece + i * PAGES_SIZE);

		is_new[i] = sum != o->sums[first + i];
		o->sums[first + i] = sum;
		*changed += is_new[i];
		if (is_new[i])
			o->used[(first + i) / SHARED_CHUNK_PAGES] = 1;
	}
	s->read_us += clock_us() - t0;
	s->read_bytes += n * PAGES_SIZE;
	return *changed == before ? 0 : send_runs(o, sink, first, s->piece, is_new, n, err);
}

static int pass_data(struct shared *s, struct shared_object *o, const struct shared_sink *sink,
		     uint64_t first, uint64_t end, uint64_t *changed, struct error *err)
{
	for (uint64_t at = first; at < end;) {
		size_t n = end - at < SHARED_PIECE_PAGES ? (size_t)(end - at) : SHARED_PIECE_PAGES;

		if (pass_piece(s, o, sink, at, n, changed, err) < 0)
			return -err->code;
		at += n;
	}
	/* what the last comparison will need; where it fails, that is slower */
	if (o->view)
		(void)madvise((void *)(uintptr_t)(o->view + first * PAGES_SIZE), (end - first) * PAGES_SIZE,
			      MADV_POPULATE_READ);
	return 0;
}

int shared_object_pass(struct shared *s, struct shared_object *o, const struct shared_sink *sink,
		       uint64_t *ret_changed, struct error *err)
{
	uint64_t at = 0, len, page = 0;
	int r;

	o->data_bytes = 0;
	while ((r = shared_next_data(o, &at, &len, err)) > 0) {
		if (pass_hole(o, sink, page, at / PAGES_SIZE, ret_changed, err) < 0)
			return -err->code;
		page = (at + len) / PAGES_SIZE;
		if (pass_data(s, o, sink, at / PAGES_SIZE, page, ret_changed, err) < 0)
			return -err->code;
		at += len;
		o->data_bytes += len;
	}
	return r < 0 ? r : pass_hole(o, sink, page, o->n_pages, ret_changed, err);
}

static int send_changed(struct shared *s, const struct shared_object *o, const struct shared_sink *sink,
			uint64_t first, size_t n, struct error *err)
{
	const uint8_t *data = o->view ? o->view + first * PAGES_SIZE : s->piece;
	bool is_new[SHARED_PIECE_PAGES], any = false;

	for (size_t i = 0; i < n; i++)
		any |= is_new[i] = shared_bit(o->changed, first + i);
	if (!any || (!o->view && shared_object_read(o, first, s->piece, n, err) < 0))
		return any ? -err->code : 0;
	return send_runs(o, sink, first, data, is_new, n, err);
}

int shared_object_send(struct shared *s, const struct shared_object *o, const struct shared_sink *sink,
		       struct error *err)
{
	for (uint64_t chunk = 0; chunk < shared_chunks(o->n_pages); chunk++) {
		uint64_t at = chunk * SHARED_CHUNK_PAGES, end = at + SHARED_CHUNK_PAGES;

		if (!o->used[chunk])
			continue;
		end = end < o->n_pages ? end : o->n_pages;
		for (size_t n; at < end; at += n) {
			n = end - at < SHARED_PIECE_PAGES ? (size_t)(end - at) : SHARED_PIECE_PAGES;
			if (send_changed(s, o, sink, at, n, err) < 0)
				return -err->code;
		}
	}
	return 0;
}
