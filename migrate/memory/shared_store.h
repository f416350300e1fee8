/*
 * shared_store.h - a container's shared objects on the target, before it lives there
 *
 * Each object that comes is a file in memory from its first page on, the very one
 * that the restored processes will share (criu-glue/prepared.h): nothing is copied
 * again. What never came is a hole. In a checkpoint the pages go into its page store
 * instead, under the object's number, and become files when it is restored.
 *
 * Everything comes from a peer: numbers, sizes, offsets and names are checked; what
 * is wrong is -EPROTO, too much of it -ENOSPC.
 *
 *   r = shared_store_new(&s, err);
 *   r = shared_store_object(s, number, size, &about, err);	first, and when it grows
 *   r = shared_store_put(s, number, offset, data, n, err);
 *   ... everything has come ...
 *   r = shared_store_prepare(s, prepared, err);
 *
 * One thread at a time.
 */
#pragma once

#include "criu-glue/prepared.h"
#include "engine/base/cleanup.h"
#include "engine/base/error.h"
#include "proto/pages.h"

/* Files that a peer may make us hold open. */
#define SHARED_STORE_OBJECTS_MAX 512

struct shared_store;

int shared_store_new(struct shared_store **ret, struct error *err);

/* Where files of a tmpfs are made (tmpfs.h), borrowed; without it there can be none. */
struct tmpfs;
void shared_store_set_tmpfs(struct shared_store *s, const struct tmpfs *tmpfs);

/* Whose memory it is (shared_allocator.h), borrowed; without it, the caller's. */
struct cgroup;
void shared_store_set_cgroup(struct shared_store *s, const struct cgroup *cg);

/* The same for what others write to fd (borrowed, a file in memory) at offset. */
int shared_store_make_room(struct shared_store *s, int fd, uint64_t offset, uint64_t len, struct error *err);

/* For a checkpoint: pages go into this store, which is borrowed and not sealed yet. */
struct store;
int shared_store_new_in(struct store *pages, struct shared_store **ret, struct error *err);
void shared_store_free(struct shared_store *s);
DEFINE_CLEANUP(struct shared_store *, shared_store_free)

/* A new object, or a known one of another size or name. */
int shared_store_object(struct shared_store *s, uint32_t number, uint64_t size,
			const struct pages_object *about, struct error *err);

/* n pages at offset, which lie in the object; data NULL: they are a hole. */
int shared_store_put(struct shared_store *s, uint32_t number, uint64_t offset, const void *data, uint64_t n,
		     struct error *err);

/* The object is no more. */
int shared_store_drop(struct shared_store *s, uint32_t number, struct error *err);

/* Pages that all files have together. */
uint64_t shared_store_pages(const struct shared_store *s);

/* What --verify compares: as store_hash does it, with offsets for addresses. */
int shared_store_hash(const struct shared_store *s, uint32_t number, uint64_t *ret, struct error *err);

/* Its name for people; "" when it is not known. */
const char *shared_store_name(const struct shared_store *s, uint32_t number);

/* The number of the object that CRIU's images know by this inode or System V id; 0:
 * there is none. */
uint32_t shared_store_number(const struct shared_store *s, uint64_t inode);

/* What a checkpoint must know besides the pages: records of proto/pages.h, the
 * caller's to free. */
int shared_store_save(const struct shared_store *s, void **ret, size_t *ret_len, struct error *err);

/* Puts what shared_store_save wrote, and its pages from a sealed page store, into s,
 * which is empty. -EPROTO when it is something else. */
int shared_store_load(struct shared_store *s, const void *data, size_t len, const struct store *pages,
		      struct error *err);

/* Makes the file of a tmpfs whose path in the container this is appear as name in
 * parent_fd: 1, or 0, there is no such object. */
int shared_store_link(const struct shared_store *s, const char *path, int parent_fd, const char *name,
		      struct error *err);

/* All is there: adds it to the list for CRIU's restore, which the store must outlive; s may
 * be NULL. */
int shared_store_prepare(struct shared_store *s, struct prepared *list, struct error *err);
