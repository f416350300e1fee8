/*
 * pagescan.h - ioctl(PAGEMAP_SCAN): which pages of a range are in a given state
 *
 * Linux 6.7, Documentation/admin-guide/mm/pagemap.rst. The names are defined
 * here because the headers of Debian 12 are older than the call.
 *
 * A page is PAGESCAN_WRITTEN when its page table entry has no userfaultfd
 * write-protection mark. Arming a page sets the mark, a write takes it away.
 * Only pages that exist are ever asked for, so that arming never makes page
 * tables for memory that is merely reserved: a page that comes to exist later
 * has no mark, and so counts as written.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "engine/base/error.h"

#define PAGESCAN_PAGE 4096u

enum {
	PAGESCAN_WRITTEN = 1 << 1,
	PAGESCAN_FILE = 1 << 2,
	PAGESCAN_PRESENT = 1 << 3,
	PAGESCAN_SWAPPED = 1 << 4,
	PAGESCAN_PFNZERO = 1 << 5,
	PAGESCAN_SOFT_DIRTY = 1 << 7,
	PAGESCAN_GUARD = 1 << 8,	/* Linux 6.15: MADV_GUARD_INSTALL */
};

/* A page is listed when it has all of must and none of mustnt, and either one of
 * any or not one of any_not (both 0: whichever). tell: what a region's
 * categories are to say. */
struct pagescan_query {
	uint64_t must, mustnt, any, any_not, tell;
	/* PAGESCAN_ARM: mark what is listed, in the same step. -EPERM when a mapping
	 * of the range is not registered for that; some of the range may have been
	 * armed then, and nothing is listed, so all of it must be taken as written.
	 * PAGESCAN_CHECK: the same -EPERM, but nothing is armed. */
	enum { PAGESCAN_LOOK, PAGESCAN_CHECK, PAGESCAN_ARM } mode;
};

struct pagescan_region {
	uint64_t start, end, categories;
};

/* At most size regions of [start, end) in address order, *ret_n of them;
 * everything below *ret_end has been looked at. pagemap_fd: /proc/PID/pagemap,
 * borrowed. -ESRCH when the address space has died. Kernels without the call
 * answer PAGESCAN_LOOK by page_state.h. */
int pagescan_run(int pagemap_fd, const struct pagescan_query *query, uint64_t start, uint64_t end,
		 struct pagescan_region *regions, size_t size, size_t *ret_n, uint64_t *ret_end,
		 struct error *err);

/* PAGESCAN_GUARD where the kernel knows of guards, else 0. */
uint64_t pagescan_guards(void);
