/*
 * filler_payload.h - what runs in the box of test_filler.c
 *
 * Regions of memory with a pattern that depends on the place; init answers over
 * one TCP connection: "verify" looks at every page, "churn" does to its mappings
 * whatever a program can do, in between and afterwards looking at what it sees.
 * Its child has the same regions, some pages written again, and looks at them
 * for ever.
 */
#pragma once

#include <netinet/in.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "tests/unit/criu_box.h"

#define FILLER_PORT 7777
#define REGIONS 12
#define PAGE 4096u
#define WORDS (PAGE / sizeof(uint64_t))

/* What a page of a region should hold. */
enum content { ZERO, PATTERN, WRITTEN, ABSENT };

struct region {
	uint8_t *at;
	size_t pages;
	uint8_t *content;
};

static struct region regions[REGIONS];

static uint64_t first_word(int region, size_t page, enum content content)
{
	return ((uint64_t)region << 56 | (uint64_t)content << 48 | page) * 0x9e3779b97f4a7c15u;
}

static void region_fill(int r, size_t from, size_t to, enum content content)
{
	for (size_t p = from; p < to; p++) {
		uint64_t *words = (uint64_t *)(regions[r].at + p * PAGE);

		for (size_t i = 0; content != ZERO && i < WORDS; i++)
			words[i] = first_word(r, p, content) + i;
		regions[r].content[p] = content;
	}
}

static bool page_is_right(int r, size_t p)
{
	const uint64_t *words = (const uint64_t *)(regions[r].at + p * PAGE);
	enum content content = regions[r].content[p];
	uint64_t first = content == ZERO ? 0 : first_word(r, p, content);

	for (size_t i = 0; content != ABSENT && i < WORDS; i++)
		if (words[i] != first + (content == ZERO ? 0 : i))
			return false;
	return true;
}

static bool region_is_right(int r)
{
	for (size_t p = 0; p < regions[r].pages; p++)
		if (!page_is_right(r, p)) {
			fprintf(stderr, "region %d page %zu of %zu is wrong\n", r, p,
				regions[r].pages);
			return false;
		}
	return true;
}

static bool all_right(void)
{
	for (int r = 0; r < REGIONS; r++)
		if (!region_is_right(r))
			return false;
	return true;
}

static void regions_make(size_t total_mb)
{
	size_t pages = total_mb * 256 / REGIONS;

	for (int r = 0; r < REGIONS; r++) {
		regions[r].pages = pages;
		regions[r].at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		regions[r].content = calloc(1, pages);
		region_fill(r, 0, pages / 4 * 3, PATTERN);	/* the rest: never touched */
	}
}

/* Runs fn in a child; true if it says so. */
static bool in_fork(bool (*fn)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(fn() ? 0 : 1);
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	       WEXITSTATUS(status) == 0;
}

static bool region_move(int r)
{
	size_t len = regions[r].pages * PAGE;
	void *to = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	regions[r].at = mremap(regions[r].at, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	if (regions[r].at != to)
		fprintf(stderr, "mremap of region %d: %m\n", r);
	return regions[r].at == to;
}

static void region_drop(int r, size_t from, size_t to)
{
	MUST(madvise(regions[r].at + from * PAGE, (to - from) * PAGE, MADV_DONTNEED));
	memset(regions[r].content + from, ZERO, to - from);
}

static bool read_first_regions(void)
{
	return region_is_right(0) && region_is_right(1);
}

static bool move_and_read(void)
{
	region_drop(5, 3, 50);
	return region_move(5) && region_is_right(5) && region_is_right(6);
}

static bool nested_forks(void)
{
	region_drop(5, 100, 120);
	region_fill(6, 10, 20, WRITTEN);
	return region_move(5) && in_fork(move_and_read) && region_is_right(5) &&
	       region_is_right(6);
}

static bool executed(void)
{
	execl("/bin/true", "true", NULL);
	return false;
}

/* Half of it is unmapped, and in that place something new. */
static bool churn_unmap(int r)
{
	size_t from = regions[r].pages / 8, n = regions[r].pages / 4;
	uint8_t *at = regions[r].at + from * PAGE;

	MUST(munmap(at, n * PAGE));
	memset(regions[r].content + from, ABSENT, n);
	if (!region_is_right(r))
		return false;
	if (mmap(at, n * PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != at)
		return false;
	memset(regions[r].content + from, ZERO, n);
	return region_is_right(r);
}

/* Many small mappings out of a large one. */
static bool churn_protect(int r)
{
	for (size_t p = 1; p + 1 < regions[r].pages && p < 2000; p += 16)
		MUST(mprotect(regions[r].at + p * PAGE, PAGE, PROT_READ));
	return region_is_right(r);
}

static bool churn_grow(int r)
{
	size_t pages = regions[r].pages + 100;
	uint8_t *content = calloc(1, pages);

	memcpy(content, regions[r].content, regions[r].pages);
	regions[r].at = mremap(regions[r].at, regions[r].pages * PAGE, pages * PAGE,
			       MREMAP_MAYMOVE);
	regions[r].content = content;
	regions[r].pages = pages;
	return regions[r].at != MAP_FAILED && region_is_right(r);
}

/* The kernel itself reads and writes what is not there yet. */
static bool churn_system_calls(int r)
{
	size_t last = regions[r].pages / 2;
	uint64_t words[WORDS];
	int fds[2];

	MUST(pipe(fds));
	MUST(write(fds[1], regions[r].at + last * PAGE, PAGE));
	MUST(read(fds[0], words, PAGE));
	if (words[5] != first_word(r, last, PATTERN) + 5)
		return false;
	for (size_t i = 0; i < WORDS; i++)
		words[i] = first_word(r, last - 1, WRITTEN) + i;
	MUST(write(fds[1], words, PAGE));
	MUST(read(fds[0], regions[r].at + (last - 1) * PAGE, PAGE));
	regions[r].content[last - 1] = WRITTEN;
	close(fds[0]);
	close(fds[1]);
	return page_is_right(r, last - 1) && page_is_right(r, last - 2);
}

static void *reader(void *arg)
{
	uintptr_t seed = (uintptr_t)arg;

	for (size_t i = 0; i < 4 * regions[11].pages; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		if (!page_is_right(11, (seed >> 33) % regions[11].pages))
			return "threads";
	}
	return NULL;
}

/* A few pages of every region. */
static bool look_around(void)
{
	static uint64_t seed = 1;

	for (int i = 0; i < 5 * REGIONS; i++) {
		int r = i % REGIONS;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		if (!page_is_right(r, (seed >> 33) % regions[r].pages))
			return false;
	}
	return true;
}

static bool fork_and_look(void)
{
	region_drop(5, 200, 203);
	return region_move(5) && in_fork(look_around) && look_around();
}

/* Much in a short time, while nearly nothing is there yet. */
static bool storm(void)
{
	for (size_t i = 0; i < 40; i++) {
		region_drop(1, 600 + 9 * i, 604 + 9 * i);
		if (!region_move(1 + (int)i % 2) || !in_fork(fork_and_look) || !look_around())
			return false;
	}
	return true;
}

static const char *churn_once(void)
{
	if (!storm())
		return "storm";
	region_fill(10, 7, 400, WRITTEN);
	if (!in_fork(read_first_regions))
		return "fork";
	region_drop(2, 100, regions[2].pages / 2);
	if (!region_move(1) || !region_is_right(1))
		return "mremap";
	if (!in_fork(nested_forks))
		return "nested forks";
	if (in_fork(executed) == false)
		return "exec";
	MUST(madvise(regions[4].at, regions[4].pages * PAGE, MADV_DONTFORK));
	if (!in_fork(nested_forks))
		return "forks that leave a mapping out";
	MUST(madvise(regions[4].at, regions[4].pages * PAGE, MADV_DOFORK));
	if (!churn_protect(4))
		return "mprotect";
	if (!churn_unmap(3))
		return "munmap";
	if (!churn_grow(8))
		return "growing";
	if (!churn_system_calls(9))
		return "system calls";
	return NULL;
}

static const char *churn(void)
{
	pthread_t threads[3];
	const char *why;

	for (uintptr_t i = 0; i < 3; i++)
		CHECK(pthread_create(&threads[i], NULL, reader, (void *)(i + 1)) == 0);
	why = churn_once();
	for (int i = 0; i < 3; i++) {
		void *said;

		CHECK(pthread_join(threads[i], &said) == 0);
		why = why ? why : said;
	}
	return why ? why : "fine";
}

static void look_for_ever(void)
{
	region_fill(0, 5, 300, WRITTEN);
	region_drop(7, 10, 20);
	for (;;) {
		if (!all_right())
			_exit(1);
		usleep(1000);
	}
}

static int filler_payload_main(void)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(FILLER_PORT) };
	int listener = (int)MUST(socket(AF_INET, SOCK_STREAM, 0)), conn;
	CLEANUP(file_closep) FILE *f = fopen("/size", "re");
	char line[64];
	size_t mb;
	pid_t child;
	ssize_t n;

	CHECK(f && fscanf(f, "%zu", &mb) == 1);
	regions_make(mb);
	child = (pid_t)MUST(fork());
	if (child == 0)
		look_for_ever();
	MUST(bind(listener, (struct sockaddr *)&addr, sizeof(addr)));
	MUST(listen(listener, 5));
	dprintf(1, "started\n");
	conn = (int)MUST(accept(listener, NULL, NULL));
	while ((n = read(conn, line, sizeof(line) - 1)) > 0) {
		const char *said = line[0] == 'c' ? churn() : all_right() ? "fine" : "wrong";

		dprintf(conn, "%s\n", waitpid(child, NULL, WNOHANG) ? "the child is dead" : said);
	}
	return 0;
}
