/*
 * tracker_fixture.h - a cgroup with real processes and a shadow of their memory
 *
 * The shadow is what a target would have: each round's pages are copied into it
 * while the processes run on. At the freeze it must equal their memory.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "engine/base/cleanup.h"
#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "migrate/memory/tracker.h"

#define PAGE 4096u
#define SECOND_US 1000000u

struct shadow_page {
	uint64_t generation, address;	/* 0: an empty place */
	unsigned char *data;
};

/* Shared with the processes: how far they are and what they were told. */
struct shared {
	volatile int joined, ready, go, done, stop;
	volatile uintptr_t area, other;
	volatile pid_t child;
	volatile long value[8];
};

struct box {
	struct cgroup *cg;
	struct tracker *t;
	struct shared *shared;
	struct shadow_page *pages;
	size_t size;
	struct error err;
	bool frozen;
	/* the last round, limited to one process and one range */
	pid_t pid;
	uint64_t from, to;
	size_t reported, total, processes_seen;
	bool bitmap[1 << 16];		/* of pages from `from` on */
	uint64_t generation;
	pid_t ns_pid;
};

#define check(b, call)						\
	do {							\
		if ((call) < 0)					\
			fail_msg("%s: %s", #call, (b)->err.msg); \
	} while (0)

static inline char *map(void *where, size_t pages, int prot)
{
	int fixed = where ? MAP_FIXED : 0;
	char *p = mmap(where, pages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0);

	if (p == MAP_FAILED)
		_exit(90);
	(void)madvise(p, pages * PAGE, MADV_NOHUGEPAGE);
	return p;
}

static inline void box_parent(char ret[64])
{
	(void)snprintf(ret, 64, "/godwit-tracker-%d", (int)getpid());
}

static int box_setup(void **state)
{
	struct cgroup_limits none = { 0 };
	struct box *b = calloc(1, sizeof(*b));
	char parent[64];

	box_parent(parent);
	if (!b || cgroup_create(parent, "box", &none, &b->cg, &b->err) < 0) {
		(void)fprintf(stderr, "%s\n", b ? b->err.msg : "no memory");
		return -1;
	}
	b->shared = mmap(NULL, sizeof(*b->shared), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	b->size = 1 << 16;
	b->pages = calloc(b->size, sizeof(*b->pages));
	*state = b;
	return b->shared == MAP_FAILED || !b->pages ? -1 : 0;
}

static int box_teardown(void **state)
{
	struct box *b = *state;
	char parent[64], path[128];
	int r = 0;

	tracker_free(b->t);
	if (cgroup_kill(b->cg, 5 * SECOND_US, &b->err) < 0)
		r = -1;
	while (waitpid(-1, NULL, 0) > 0)
		;
	if (cgroup_remove(b->cg, &b->err) < 0)
		r = -1;
	cgroup_free(b->cg);
	box_parent(parent);
	static const char *const roots[] = { "", "/unified", "/memory", "/cpu", "/cpuacct", "/pids", "/blkio" };
	for (size_t i = 0; i < sizeof(roots) / sizeof(*roots); i++) {
		(void)snprintf(path, sizeof(path), "/sys/fs/cgroup%s%s", roots[i], parent);
		(void)rmdir(path);
	}
	for (size_t i = 0; i < b->size; i++)
		free(b->pages[i].data);
	free(b->pages);
	(void)munmap(b->shared, sizeof(*b->shared));
	free(b);
	return r;
}

static inline void box_wait(const volatile int *value, int wanted)
{
	uint64_t end_us = clock_us() + 20 * SECOND_US;

	while (*value != wanted) {
		if (clock_us() > end_us)
			fail_msg("a process did not come to step %d", wanted);
		(void)sched_yield();
	}
}

static inline pid_t box_start(struct box *b, int (*body)(struct shared *s))
{
	int joined = b->shared->joined;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (cgroup_join(b->cg, 0, &b->err) < 0)
			_exit(99);
		b->shared->joined++;
		_exit(body(b->shared));
	}
	box_wait(&b->shared->joined, joined + 1);
	return pid;
}

/* In a process: the next step is allowed when the test has said so. */
static inline void step(struct shared *s, int n)
{
	s->ready = n;
	while (s->go < n)
		(void)sched_yield();
}

/* In the test: lets the process do step n and waits for step n + 1. */
static inline void box_step(struct box *b, int n)
{
	b->shared->go = n;
	box_wait(&b->shared->ready, n + 1);
}

static inline struct shadow_page *shadow_find(struct box *b, uint64_t generation, uint64_t address)
{
	size_t at = (generation * 0x9e3779b97f4a7c15u ^ (address / PAGE) * 0xff51afd7ed558ccdu) >>
		    20;

	for (size_t i = 0; i < b->size; i++) {
		struct shadow_page *p = b->pages + (at + i) % b->size;

		if (!p->generation || (p->generation == generation && p->address == address))
			return p;
	}
	fail_msg("the shadow is full");
	return NULL;
}

/* A text file of a process; the caller frees. */
static inline char *text_of(pid_t pid, const char *file)
{
	struct error err;
	char path[64], *text = NULL;

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	assert_int_equal(fd_read_file_at(AT_FDCWD, path, 64 << 20, &text, NULL, &err), 0);
	return text;
}

static inline long status_of(pid_t pid, const char *key)
{
	CLEANUP(freep) char *text = text_of(pid, "status");
	const char *at = strstr(text, key);

	return at ? atol(at + strlen(key)) : -1;
}

static inline bool read_page(pid_t pid, uint64_t address, void *data)
{
	struct iovec to = { data, PAGE }, from = { (void *)(uintptr_t)address, PAGE };

	return process_vm_readv(pid, &to, 1, &from, 1, 0) == PAGE;
}

/* Also what has become PROT_NONE since it was handed out. */
static inline bool force_page(pid_t pid, uint64_t address, void *data)
{
	CLEANUP(fd_closep) int fd = -EBADF;
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && pread(fd, data, PAGE, (off_t)address) == PAGE;
}

static inline void shadow_put(struct box *b, const struct tracker_process *p, uint64_t address)
{
	unsigned char data[PAGE];
	struct shadow_page *page;

	if (!read_page(p->pid, address, data)) {
		if (b->frozen)
			fail_msg("page %lx of %d is handed out but can't be read", address, p->pid);
		if (!force_page(p->pid, address, data))
			return;
	}
	page = shadow_find(b, p->generation, address);
	if (!page->data)
		page->data = malloc(PAGE);
	assert_non_null(page->data);
	page->generation = p->generation;
	page->address = address;
	memcpy(page->data, data, PAGE);
}

static int box_visit(void *ctx, const struct tracker_process *p,
		     const struct tracker_range *ranges, size_t n, struct error *err)
{
	struct box *b = ctx;

	(void)err;
	assert_true(n > 0);
	for (size_t i = 0; i < n; i++) {
		assert_true(ranges[i].start < ranges[i].end);
		assert_true((ranges[i].start | ranges[i].end) % PAGE == 0);
		assert_true(i == 0 || ranges[i].start > ranges[i - 1].end);
		for (uint64_t at = ranges[i].start; at < ranges[i].end; at += PAGE) {
			b->total++;
			shadow_put(b, p, at);
			if (p->pid == b->pid && at >= b->from && at < b->to) {
				b->reported += !b->bitmap[(at - b->from) / PAGE];
				b->bitmap[(at - b->from) / PAGE] = true;
			}
		}
	}
	if (p->pid == b->pid) {
		b->generation = p->generation;
		b->ns_pid = p->ns_pid;
	}
	return 0;
}

static inline void box_watch(struct box *b, pid_t pid, uint64_t from, size_t pages)
{
	b->pid = pid;
	b->from = from;
	b->to = from + pages * PAGE;
	assert_true(pages <= sizeof(b->bitmap) / sizeof(*b->bitmap));
}

static inline void box_round(struct box *b)
{
	b->reported = b->total = 0;
	memset(b->bitmap, 0, sizeof(b->bitmap));
	check(b, tracker_round(b->t, box_visit, b, &b->err));
}

static inline void box_open(struct box *b, enum tracker_kind kind)
{
	check(b, tracker_open(b->cg, kind, &b->t, &b->err));
}

static inline void box_freeze(struct box *b)
{
	check(b, cgroup_freeze(b->cg, 5 * SECOND_US, &b->err));
	b->frozen = true;
}

static int box_compare(void *ctx, const struct tracker_process *p,
		       const struct tracker_range *ranges, size_t n, struct error *err)
{
	unsigned char data[PAGE];
	struct box *b = ctx;

	(void)err;
	for (size_t i = 0; i < n; i++)
		for (uint64_t at = ranges[i].start; at < ranges[i].end; at += PAGE) {
			struct shadow_page *page = shadow_find(b, p->generation, at);

			b->total++;
			if (!read_page(p->pid, at, data))
				fail_msg("page %lx of %d can't be read", at, p->pid);
			if (!page->generation)
				fail_msg("page %lx of %d was never handed out", at, p->pid);
			if (memcmp(page->data, data, PAGE) != 0)
				fail_msg("page %lx of %d differs", at, p->pid);
			page->address |= 1;	/* seen */
			if (p->pid == b->pid && at >= b->from && at < b->to)
				b->bitmap[(at - b->from) / PAGE] = true;
		}
	return 0;
}

#define RESERVED (UINT64_C(1) << 30)	/* so large is only what a sanitizer maps */

/* What is carried but not in the map must be zero. */
static int box_compare_rest(void *ctx, const struct tracker_process *p,
			    const struct tracker_range *ranges, size_t n, struct error *err)
{
	static const unsigned char zero[PAGE];
	unsigned char data[PAGE];
	struct box *b = ctx;
	char path[64];
	CLEANUP(fd_closep) int fd = -EBADF;

	(void)err;
	(void)snprintf(path, sizeof(path), "/proc/%d/pagemap", p->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	for (size_t i = 0; i < n; i++)
		for (uint64_t at = ranges[i].start;
		     at < ranges[i].end && ranges[i].end - ranges[i].start < RESERVED; at += PAGE) {
			struct shadow_page *page = shadow_find(b, p->generation, at | 1);
			uint64_t entry;

			b->processes_seen++;
			if (page->generation) {
				page->address &= ~UINT64_C(1);
				continue;
			}
			if (pread(fd, &entry, sizeof(entry), (off_t)(at / PAGE * sizeof(entry))) !=
				    sizeof(entry) ||
			    !(entry >> 62))
				continue;
			if (!read_page(p->pid, at, data))
				fail_msg("page %lx of %d is carried but can't be read", at, p->pid);
			if (memcmp(data, zero, PAGE) != 0)
				fail_msg("page %lx of %d is in no map", at, p->pid);
		}
	return 0;
}

static int box_visit_last(void *ctx, const struct tracker_process *p,
			  const struct tracker_range *ranges, size_t n, struct error *err)
{
	struct box *b = ctx;
	size_t total = b->total;
	int r = box_visit(ctx, p, ranges, n, err);

	b->total = total;		/* counts what is compared */
	return r;
}

/* Freezes, does the last round and compares everything. */
static inline void box_finish(struct box *b)
{
	const struct tracker_final visitors = { box_visit_last, box_compare, box_compare_rest };

	box_freeze(b);
	b->total = 0;
	memset(b->bitmap, 0, sizeof(b->bitmap));
	check(b, tracker_final(b->t, &visitors, b, &b->err));
}

#define BOX_TEST(fn) cmocka_unit_test_setup_teardown(fn, box_setup, box_teardown)
