/*
 * What pagemap says must be what PAGEMAP_SCAN says, where there is such a thing;
 * and in any case what the test has done to the memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/base/cleanup.h"
#include "migrate/memory/page_state.h"

enum { PAGES = 4096, REGIONS = 3 };

static const struct pagescan_query populated = {
	.mustnt = PAGESCAN_PFNZERO | PAGESCAN_FILE,
	.any = PAGESCAN_PRESENT | PAGESCAN_SWAPPED,
};

static const struct pagescan_query absent = {
	.any = PAGESCAN_PFNZERO,
	.any_not = PAGESCAN_PRESENT,
	.tell = PAGESCAN_PFNZERO | PAGESCAN_SWAPPED,
};

typedef int (*scan_fn)(int, const struct pagescan_query *, uint64_t, uint64_t,
		       struct pagescan_region *, size_t, size_t *, uint64_t *, struct error *);

/* A mark for each page, by calls that have room for few regions only. */
static void scan_all(scan_fn scan, const struct pagescan_query *query, const char *area,
		     char marks[PAGES + 1])
{
	CLEANUP(fd_closep) int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t start = (uintptr_t)area, end = start + (uint64_t)PAGES * PAGESCAN_PAGE;
	struct error err;

	memset(marks, '.', PAGES);
	marks[PAGES] = '\0';
	for (uint64_t at = start; at < end;) {
		struct pagescan_region regions[REGIONS];
		size_t n;

		if (scan(fd, query, at, end, regions, REGIONS, &n, &at, &err) < 0)
			fail_msg("%s", err.msg);
		for (size_t i = 0; i < n; i++)
			for (uint64_t p = regions[i].start; p < regions[i].end; p += PAGESCAN_PAGE)
				marks[(p - start) / PAGESCAN_PAGE] = 'x';
	}
}

static char *make(int advice)
{
	size_t huge = 2u << 20;
	char *p = mmap(NULL, PAGES * PAGESCAN_PAGE + huge, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(p != MAP_FAILED);
	p += huge - (uintptr_t)p % huge;
	(void)madvise(p, PAGES * PAGESCAN_PAGE, advice);
	return p;
}

static void both_see_what_is_populated(void **state)
{
	static char expected[PAGES + 1], ours[PAGES + 1], kernels[PAGES + 1];
	char *area = make(MADV_NOHUGEPAGE);
	volatile char *p = area;

	(void)state;
	memset(expected, '.', PAGES);
	for (size_t i = 0; i < PAGES; i++) {
		if (i % 5 == 0 || i / 100 == 7) {
			p[i * PAGESCAN_PAGE] = 1;
			expected[i] = 'x';
		} else if (i % 5 == 1) {
			(void)p[i * PAGESCAN_PAGE];	/* the zero page */
		}
	}
	scan_all(page_state_scan, &populated, area, ours);
	assert_string_equal(ours, expected);
	scan_all(pagescan_run, &populated, area, kernels);
	assert_string_equal(kernels, expected);
	for (size_t i = 0; i < PAGES; i++)
		expected[i] = expected[i] == 'x' ? '.' : 'x';
	scan_all(page_state_scan, &absent, area, ours);
	assert_string_equal(ours, expected);
	scan_all(pagescan_run, &absent, area, kernels);
	assert_string_equal(kernels, expected);
}

/* Huge pages, if there are any: one that is written and the zero one. */
static void huge_zeroes_are_zeroes(void **state)
{
	static char ours[PAGES + 1], kernels[PAGES + 1];
	char *area = make(MADV_HUGEPAGE);

	(void)state;
	*(volatile char *)area = 1;
	(void)*(volatile char *)(area + (2u << 20));
	scan_all(page_state_scan, &populated, area, ours);
	scan_all(pagescan_run, &populated, area, kernels);
	assert_string_equal(ours, kernels);
	assert_int_equal(ours[0], 'x');
	assert_int_equal(ours[512], '.');
}

static void what_it_cannot_know_is_refused(void **state)
{
	CLEANUP(fd_closep) int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	struct pagescan_query written = { .must = PAGESCAN_WRITTEN };
	struct pagescan_query arm = { .mode = PAGESCAN_ARM };
	struct pagescan_region region;
	struct error err;
	uint64_t end;
	size_t n;

	(void)state;
	assert_int_equal(page_state_scan(fd, &written, 0, PAGESCAN_PAGE, &region, 1, &n, &end, &err),
			 -EOPNOTSUPP);
	assert_int_equal(page_state_scan(fd, &arm, 0, PAGESCAN_PAGE, &region, 1, &n, &end, &err),
			 -EOPNOTSUPP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_see_what_is_populated),
		cmocka_unit_test(huge_zeroes_are_zeroes),
		cmocka_unit_test(what_it_cannot_know_is_refused),
	};

	return geteuid() == 0 ? cmocka_run_group_tests(tests, NULL, NULL) : 77;
}
