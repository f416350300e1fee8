/*
 * shared.h - a container's shared memory on its way, object by object
 *
 * An object is a file in memory: of memfd_create(2), of a shared anonymous
 * mapping, of shmget(2), or one with a name in a tmpfs of the container. It is
 * read once, however many processes map it, and sent as pages at offsets.
 *
 * Who has written to one can't be asked: a page table tells of one mapping, and
 * forgets when that goes; a process may map, write and end between two looks; and
 * write(2) is in no page table at all. So an object is read as a whole and
 * compared, page by page, by hash, with what was sent. While the container runs
 * that is done as often as it brings something; when it stands still each object
 * is compared once more, whatever was found before, by all processors, while CRIU
 * dumps the rest. That takes 55 to 75 ms a gigabyte on one processor.
 *
 * A hash of 8 bytes a page is kept, and each object is mapped here.
 *
 *   CLEANUP(shared_freep) struct shared *s = NULL;
 *   r = shared_open(cgroup, init, &s, err);
 *   r = shared_round(s, &sink, &changed, err);		as often as wanted
 *   ... freeze the container ...
 *   r = shared_compare(s, carried, err);		begins
 *   ... CRIU dumps ...
 *   r = shared_last_round(s, &sink, &changed, err);	waits for it
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "criu-glue/carried.h"
#include "engine/base/cleanup.h"
#include "engine/base/error.h"
#include "engine/cgroup/cgroup.h"
#include "proto/pages.h"

/* What is smaller is left to CRIU: it takes less time than following it. */
#define SHARED_MIN_BYTES (64u << 10)

/* Of one container at one time; what is beyond is left to CRIU. */
#define SHARED_OBJECTS_MAX 512

struct shared;

/* Where pages go. Calls for an object come between its object and its gone. */
struct shared_sink {
	/* It is new, or its size or name is another now. */
	int (*object)(void *ctx, uint32_t number, uint64_t size, const struct pages_object *about,
		      struct error *err);
	/* data: n pages, or NULL, zero pages. */
	int (*pages)(void *ctx, uint32_t number, uint64_t offset, const void *data, size_t n,
		     struct error *err);
	int (*gone)(void *ctx, uint32_t number, struct error *err);
	/* shared_hash: of all pages, as store_hash does it. */
	int (*hash)(void *ctx, uint32_t number, uint64_t hash, struct error *err);
	void *ctx;
};

/* cg is borrowed and outlives it. init: any process in the container's own ipc and
 * mount namespaces, as this process sees it. files: also those of its tmpfs mounts,
 * which otherwise go with the trees of these, whole. */
int shared_open(const struct cgroup *cg, pid_t init, bool files, struct shared **ret, struct error *err);
void shared_free(struct shared *s);
DEFINE_CLEANUP(struct shared *, shared_free)

/* Looks which objects there are, and sends what is new in them. *ret_us: what
 * reading and comparing took. */
int shared_round(struct shared *s, const struct shared_sink *sink, uint64_t *ret_us, struct error *err);

/* The container is frozen: lists the objects for CRIU, and begins to compare them
 * in threads. No process may be forked until shared_last_round or shared_free. */
int shared_compare(struct shared *s, struct carried *carried, struct error *err);
int shared_last_round(struct shared *s, const struct shared_sink *sink, struct error *err);

/* After the last round: whether the content of the file at this path of the container,
 * open at fd, went as an object. */
bool shared_has_sent(const struct shared *s, const char *path, int fd);

/* After the last round: reads everything again, for sink->hash. */
int shared_hash(struct shared *s, const struct shared_sink *sink, struct error *err);

/* How long the last comparison will probably hold up a dump of some 30 ms. */
uint64_t shared_expected_us(const struct shared *s);
