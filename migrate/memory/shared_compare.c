/*
 * The last comparison: the container stands still, so all of each object is as it
 * will move. Threads take chunks of 2 MiB in a row; a chunk's sums and marks are
 * touched by one thread only. An object that somebody outside of the container
 * makes shorter meanwhile ends this process by SIGBUS; its lease then thaws the
 * container (lease.h).
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "migrate/memory/shared_state.h"

/* More than this for each thread. */
#define THREAD_CHUNKS 8u

static void note_sum(struct shared_object *o, uint64_t page, uint64_t sum)
{
	if (o->sums[page] == sum)
		return;
	o->sums[page] = sum;
	shared_set_bit(o->changed, page);
}

static int compare_page(const struct shared *s, struct shared_object *o, uint64_t page, struct error *err)
{
	uint8_t read[PAGES_SIZE];
	const uint8_t *data = o->view ? o->view + page * PAGES_SIZE : read;

	if (!o->view && shared_object_read(o, page, read, 1, err) < 0)
		return -err->code;
	note_sum(o, page, shared_page_sum(s, data));
	return 0;
}

/* Where the next data is, in pages; end when there is none before it. */
static uint64_t find_data(const struct shared_object *o, uint64_t page, uint64_t end)
{
	off_t at = lseek(o->fd, (off_t)(page * PAGES_SIZE), SEEK_DATA);

	/* a last page that is cut off has its data up to the end of the file */
	return at < 0 || (uint64_t)at / PAGES_SIZE > end ? end : (uint64_t)at / PAGES_SIZE;
}

/* mincore(2) tells what is in memory, for a whole chunk at once; the rest is a hole,
 * or swapped out. Reading a hole through the mapping would fill it. */
static int compare_chunk(const struct shared *s, struct shared_object *o, uint64_t chunk, struct error *err)
{
	uint64_t first = chunk * SHARED_CHUNK_PAGES, end = first + SHARED_CHUNK_PAGES, page, next;
	unsigned char there[SHARED_CHUNK_PAGES] = { 0 };

	end = end < o->n_pages ? end : o->n_pages;
	next = find_data(o, first, end);
	if (next == end && !o->used[chunk])
		return 0;
	o->used[chunk] = 1;
	if (o->view && mincore((void *)(uintptr_t)(o->view + first * PAGES_SIZE), (end - first) * PAGES_SIZE,
			       there) < 0)
		return error_set(err, errno, "%s: mincore: %s", o->about.name, strerror(errno));
	for (page = first; page < end; page++) {
		if (!(there[page - first] & 1) && next <= page)
			next = find_data(o, page, end);
		if (!(there[page - first] & 1) && next > page)
			note_sum(o, page, 0);
		else if (compare_page(s, o, page, err) < 0)
			return -err->code;
	}
	return 0;
}

static void *thread_main(void *arg)
{
	struct shared *s = arg;
	struct shared_threads *t = &s->threads;
	size_t object = 0, base = 0;		/* number of its first chunk */
	struct error err;

	for (;;) {
		size_t next = atomic_fetch_add(&t->next, 1);

		if (next >= t->n_chunks)
			return NULL;
		for (; next - base >= shared_chunks(s->objects[object]->n_pages); object++)
			base += shared_chunks(s->objects[object]->n_pages);
		if (compare_chunk(s, s->objects[object], next - base, &err) < 0)
			atomic_store(&t->failed, err.code);
	}
}

int shared_threads_start(struct shared *s, struct error *err)
{
	struct shared_threads *t = &s->threads;
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	size_t wanted = processors < 1 ? 1 : (size_t)processors;

	for (size_t i = 0; i < s->n; i++)
		t->n_chunks += shared_chunks(s->objects[i]->n_pages);
	wanted = wanted > SHARED_THREADS_MAX ? SHARED_THREADS_MAX : wanted;
	wanted = wanted > t->n_chunks / THREAD_CHUNKS + 1 ? t->n_chunks / THREAD_CHUNKS + 1 : wanted;
	while (t->n_chunks && t->n < wanted) {
		int r = pthread_create(&t->ids[t->n], NULL, thread_main, s);

		if (r && t->n)
			break;
		if (r)
			return error_set(err, r, "start a thread: %s", strerror(r));
		t->n++;
	}
	return 0;
}

int shared_threads_join(struct shared *s, struct error *err)
{
	struct shared_threads *t = &s->threads;
	int failed;

	for (; t->n; t->n--)
		(void)pthread_join(t->ids[t->n - 1], NULL);
	failed = atomic_load(&t->failed);
	return failed ? error_set(err, failed, "compare it: %s", strerror(failed)) : 0;
}
