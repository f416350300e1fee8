/*
 * shared_fixture.h - shared objects of a real process, sent into a store as a migration does it
 *
 * Whatever was done to them, by whom ever, both are equal in the end.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "engine/base/clock.h"
#include "migrate/memory/shared.h"
#include "migrate/memory/shared_store.h"
#include "migrate/tmpfs.h"

#define PAGE 4096u
#define PAGES 600u
#define SIZE (PAGES * PAGE)
#define PATIENCE_US 20000000u

#define MUST(what)				\
	do {					\
		if (!(what))			\
			_exit(90);		\
	} while (0)

/* Small enough not to be followed itself. */
struct steps {
	volatile int asked, done;
};

struct box {
	struct cgroup *cg;
	struct steps *steps;
	struct carried *carried;
	struct shared *shared;
	struct shared_store *store;
	struct tmpfs tmpfs;
	size_t announced, gone, hashed, sent;
	pid_t pid;
	struct error err;
};

#define check(b, call)						\
	do {							\
		if ((call) < 0)					\
			fail_msg("%s: %s", #call, (b)->err.msg); \
	} while (0)

static inline int take_object(void *ctx, uint32_t number, uint64_t size, const struct pages_object *about,
		       struct error *err)
{
	struct box *b = ctx;

	b->announced++;
	return shared_store_object(b->store, number, size, about, err);
}

static inline int take_pages(void *ctx, uint32_t number, uint64_t offset, const void *data, size_t n,
		      struct error *err)
{
	struct box *b = ctx;

	b->sent += n;
	return shared_store_put(b->store, number, offset, data, n, err);
}

static inline int take_gone(void *ctx, uint32_t number, struct error *err)
{
	struct box *b = ctx;

	b->gone++;
	return shared_store_drop(b->store, number, err);
}

static inline int compare_hash(void *ctx, uint32_t number, uint64_t hash, struct error *err)
{
	struct box *b = ctx;
	uint64_t here;

	b->hashed++;
	if (shared_store_hash(b->store, number, &here, err) < 0)
		return -err->code;
	return here == hash ? 0 : error_set(err, EBADMSG, "'%s' differs", shared_store_name(b->store, number));
}

static inline struct shared_sink sink_of(struct box *b)
{
	return (struct shared_sink){ take_object, take_pages, take_gone, compare_hash, b };
}

static inline void live_round(struct box *b)
{
	const struct shared_sink sink = sink_of(b);
	uint64_t us;

	b->sent = 0;
	check(b, shared_round(b->shared, &sink, &us, &b->err));
}

static inline void last_round(struct box *b)
{
	const struct shared_sink sink = sink_of(b);

	b->sent = b->hashed = 0;
	check(b, shared_compare(b->shared, b->carried, &b->err));
	check(b, shared_last_round(b->shared, &sink, &b->err));
	check(b, shared_hash(b->shared, &sink, &b->err));
}

static inline int setup(void **state)
{
	static const struct tmpfs no_tmpfs = TMPFS_EMPTY;
	struct cgroup_limits none = { 0 };
	struct spec spec = { 0 };
	struct box *b = calloc(1, sizeof(*b));
	char parent[64];

	(void)snprintf(parent, sizeof(parent), "/godwit-shared-%d", (int)getpid());
	if (b)
		b->tmpfs = no_tmpfs;
	if (!b || cgroup_create(parent, "box", &none, &b->cg, &b->err) < 0 ||
	    tmpfs_make(&spec, &b->tmpfs, &b->err) < 0 ||
	    carried_new(&b->carried, &b->err) < 0 || shared_store_new(&b->store, &b->err) < 0) {
		(void)fprintf(stderr, "%s\n", b ? b->err.msg : "no memory");
		return -1;
	}
	shared_store_set_tmpfs(b->store, &b->tmpfs);
	b->steps = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	*state = b;
	return b->steps == MAP_FAILED ? -1 : 0;
}

static inline int teardown(void **state)
{
	static const char *const roots[] = { "", "/unified", "/memory", "/cpu", "/cpuacct", "/pids", "/blkio" };
	struct box *b = *state;
	char path[128];
	int r;

	shared_free(b->shared);
	shared_store_free(b->store);
	tmpfs_closep(&b->tmpfs);
	carried_free(b->carried);
	r = cgroup_kill(b->cg, 5000000, &b->err);
	while (waitpid(-1, NULL, 0) > 0)
		;
	if (cgroup_remove(b->cg, &b->err) < 0)
		r = -1;
	cgroup_free(b->cg);
	for (size_t i = 0; i < sizeof(roots) / sizeof(*roots); i++) {
		(void)snprintf(path, sizeof(path), "/sys/fs/cgroup%s/godwit-shared-%d", roots[i], (int)getpid());
		(void)rmdir(path);
	}
	(void)munmap(b->steps, PAGE);
	free(b);
	return r;
}

static inline void await(const volatile int *value, int wanted)
{
	uint64_t end_us = clock_us() + PATIENCE_US;

	while (*value != wanted) {
		if (clock_us() > end_us)
			fail_msg("the process did not come to step %d", wanted);
		(void)usleep(100);
	}
}

/* In the process: step n is done, go on when the next one is asked for. */
static inline void done(struct steps *s, int n)
{
	s->done = n;
	while (s->asked <= n)
		(void)usleep(100);
}

/* Lets the process do the next step, and waits until it is done. */
static inline void next(struct box *b)
{
	int n = ++b->steps->asked;

	await(&b->steps->done, n);
}

/* Runs fn in the cgroup, in an ipc namespace and with a /dev/shm of its own, up to its
 * step 1. */
static inline void start(struct box *b, void (*fn)(struct steps *s))
{
	b->pid = fork();
	if (b->pid == 0) {
		struct error err;

		carried_free(b->carried);	/* shared memory of ours */
		MUST(cgroup_join(b->cg, 0, &err) == 0 && unshare(CLONE_NEWIPC | CLONE_NEWNS) == 0);
		MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
		MUST(mount("shm", "/dev/shm", "tmpfs", 0, NULL) == 0);
		fn(b->steps);
		_exit(0);
	}
	check(b, shared_open(b->cg, b->pid, true, &b->shared, &b->err));
	next(b);
}

static inline char *map(int fd, size_t size)
{
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);

	MUST(p != MAP_FAILED);
	return p;
}

static inline int new_memfd(const char *name, off_t size)
{
	int fd = memfd_create(name, 0);

	MUST(fd >= 0 && ftruncate(fd, size) == 0);
	return fd;
}

static inline void fill(char *p, size_t size, int value)
{
	for (size_t i = 0; i < size; i += 64)
		*(size_t *)(void *)(p + i) = i * 31 + (size_t)value;
}
