/*
 * files PATH [unlinked]: a file of which one half is mapped privately and one half shared.
 * Private pages are changed (the file must not be), given back (they are the file
 * again), and left alone (they are the file still).
 */
#include "tests/workloads/busy.h"

#define PAGES 1024		/* in each half */
#define HALF ((size_t)PAGES * PAGE)
#define BURST 16
#define IN_FILE 1u		/* the version that the private half of the file has */

static unsigned char *private_half, *shared_half;
static uint32_t private_versions[PAGES], shared_versions[PAGES];
static int fd;

static uint64_t key_of(size_t page)
{
	return workload_nonce + page;
}

static bool file_holds(size_t page, uint32_t version)
{
	unsigned char copy[PAGE];

	BUSY_HOLDS(pread(fd, copy, PAGE, (off_t)page * PAGE) == PAGE);
	return busy_page_holds(copy, key_of(page), version);
}

static bool private_holds(size_t page)
{
	return busy_page_holds(private_half + page * PAGE, key_of(page), private_versions[page]);
}

static bool shared_holds(size_t page)
{
	return busy_page_holds(shared_half + page * PAGE, key_of(PAGES + page), shared_versions[page]);
}

static bool change_private(size_t page)
{
	if (!private_holds(page))
		return false;
	if (busy_random() % 4 == 0) {
		private_versions[page] = IN_FILE;
		BUSY_HOLDS(madvise(private_half + page * PAGE, PAGE, MADV_DONTNEED) == 0);
		return private_holds(page);
	}
	private_versions[page]++;
	pattern_fill(private_half + page * PAGE, key_of(page), private_versions[page]);
	return file_holds(page, IN_FILE);
}

static bool change_shared(size_t page)
{
	unsigned char copy[PAGE];

	if (!shared_holds(page))
		return false;
	shared_versions[page]++;
	if (busy_random() % 4 > 0) {
		pattern_fill(shared_half + page * PAGE, key_of(PAGES + page), shared_versions[page]);
		return file_holds(PAGES + page, shared_versions[page]);
	}
	pattern_fill(copy, key_of(PAGES + page), shared_versions[page]);
	BUSY_HOLDS(pwrite(fd, copy, PAGE, (off_t)(PAGES + page) * PAGE) == PAGE);
	return shared_holds(page);
}

/* Only three quarters of the private half are ever changed. */
static bool step(void *ctx)
{
	(void)ctx;
	for (int i = 0; i < BURST; i++)
		if (!change_private(busy_random() % PAGES / 4 * 4 + busy_random() % 3) ||
		    !change_shared(busy_random() % PAGES))
			return false;
	return true;
}

static bool all(void *ctx)
{
	(void)ctx;
	for (size_t page = 0; page < PAGES; page++)
		if (!private_holds(page) || !file_holds(page, IN_FILE) || !shared_holds(page) ||
		    !file_holds(PAGES + page, shared_versions[page]))
			return false;
	return true;
}

static void plant(void *ctx, enum plant how)
{
	size_t page = busy_random() % PAGES;
	unsigned char *half = private_half;
	uint32_t *versions = private_versions;
	uint64_t key = key_of(page);

	(void)ctx;
	if (busy_random() % 2) {
		half = shared_half;
		versions = shared_versions;
		key = key_of(PAGES + page);
	}
	versions[page] += 2;
	pattern_fill(half + page * PAGE, key, versions[page]);
	pattern_spoil(half + page * PAGE, key, versions[page], how);
}

static const struct busy_work work = { step, all, plant };

static void workload_setup(int argc, char **argv)
{
	unsigned char page[PAGE];

	MUST(argc >= 2);
	fd = open(argv[1], O_RDWR | O_CREAT | O_EXCL, 0600);
	MUST(fd >= 0);
	for (size_t i = 0; i < 2u * PAGES; i++) {
		pattern_fill(page, key_of(i), IN_FILE);
		MUST(write(fd, page, PAGE) == PAGE);
	}
	for (size_t i = 0; i < PAGES; i++)
		private_versions[i] = shared_versions[i] = IN_FILE;
	private_half = mmap(NULL, HALF, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	shared_half = mmap(NULL, HALF, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)HALF);
	MUST(private_half != MAP_FAILED && shared_half != MAP_FAILED);
	MUST(argc < 3 || unlink(argv[1]) == 0);
	busy_init(-1);
	busy_thread(&work, NULL);
}
