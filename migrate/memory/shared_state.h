/*
 * shared_state.h - inside of shared memory on its way; for shared.c (rounds),
 * shared_find.c (which objects there are), shared_object.c (one of them) and
 * shared_compare.c (the last comparison)
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "migrate/memory/shared.h"

#define SHARED_CHUNK_PAGES 512u		/* 2 MiB: what one thread compares at a time */
#define SHARED_CHUNK_BYTES (SHARED_CHUNK_PAGES * PAGES_SIZE)
#define SHARED_PIECE_PAGES 32u
#define SHARED_THREADS_MAX 16

struct shared_object {
	uint32_t number;
	struct pages_object about;
	dev_t dev;
	ino_t ino;
	int fd;				/* for reading */
	uint64_t size;			/* bytes, as it was last looked at */
	uint64_t told_size;		/* that the target knows; UINT64_MAX: nothing */
	bool renamed;			/* since then */
	uint64_t seen;			/* round in which it was found last */
	uint64_t passed;		/* round in which it was compared last */
	bool calm;			/* that found nothing */
	uint64_t data_bytes;		/* without holes, then */
	/* Room for n_pages. A sum of 0: the target has a hole there. */
	uint64_t n_pages;
	uint64_t *sums;
	uint8_t *used;			/* of a chunk: it may have a sum */
	uint64_t *changed;		/* a bit a page, of the last comparison */
	const uint8_t *view;		/* of it; NULL: it is read instead */
	size_t view_len;
};

/* Work of the threads: all chunks of all objects in a row. */
struct shared_threads {
	pthread_t ids[SHARED_THREADS_MAX];
	size_t n;
	atomic_size_t next;
	size_t n_chunks;
	atomic_int failed;		/* an errno */
};

struct shared {
	const struct cgroup *cgroup;
	pid_t init;
	bool files;			/* of tmpfs mounts are objects */
	dev_t shmem_dev;
	struct { dev_t dev; uint32_t shift; } huge[4];
	size_t n_huge;
	uint64_t rounds;
	uint32_t last_number;
	struct shared_object *objects[SHARED_OBJECTS_MAX];
	size_t n;
	uint8_t *piece;			/* SHARED_PIECE_PAGES */
	uint64_t zero_sum;
	uint64_t read_bytes, read_us;	/* in rounds so far */
	bool last;			/* what is new now comes too late */
	struct shared_threads threads;
};

static inline size_t shared_chunks(uint64_t n_pages)
{
	return (n_pages + SHARED_CHUNK_PAGES - 1) / SHARED_CHUNK_PAGES;
}

static inline bool shared_bit(const uint64_t *bits, uint64_t i)
{
	return bits[i / 64] >> (i % 64) & 1;
}

static inline void shared_set_bit(uint64_t *bits, uint64_t i)
{
	bits[i / 64] |= UINT64_C(1) << (i % 64);
}

/* Marks all objects that the container has now as seen, and takes new ones. */
int shared_find(struct shared *s, struct error *err);

/* The same for files of the container's tmpfs mounts only. */
int shared_find_files(struct shared *s, struct error *err);

/* Begins to follow what is behind fd_consume, unless it is too small or one too many. */
struct stat;
int shared_add(struct shared *s, int fd_consume, const struct stat *st, enum pages_object_kind kind,
	       const char *name, struct error *err);

/* NULL when it is not known. */
struct shared_object *shared_known(const struct shared *s, dev_t dev, ino_t ino, enum pages_object_kind kind);

void shared_object_free(struct shared_object *o);

/* Takes note of its size now. */
int shared_object_resize(struct shared_object *o, struct error *err);

/* What the target shall know a page by: 0 for one of zeros. */
uint64_t shared_page_sum(const struct shared *s, const uint8_t *page);

/* The next data at or after *offset: 1 with its place in whole pages, or 0. Takes
 * 10 ms for a gigabyte of data, since the kernel looks at each page of it. */
int shared_next_data(const struct shared_object *o, uint64_t *offset, uint64_t *ret_len,
		     struct error *err);

/* Reads n pages; what the object doesn't have is zero. */
int shared_object_read(const struct shared_object *o, uint64_t page, uint8_t *to, size_t n,
		       struct error *err);

/* Compares all of it, while others write to it, and sends what is new.
 * *ret_changed: pages. */
int shared_object_pass(struct shared *s, struct shared_object *o, const struct shared_sink *sink,
		       uint64_t *ret_changed, struct error *err);

/* Sends what is marked as changed. */
int shared_object_send(struct shared *s, const struct shared_object *o, const struct shared_sink *sink,
		       struct error *err);

int shared_threads_start(struct shared *s, struct error *err);
int shared_threads_join(struct shared *s, struct error *err);
