/*
 * page_state.h - the state of pages where PAGEMAP_SCAN isn't there (before Linux 6.7)
 *
 * /proc/PID/pagemap, eight bytes a page, and /proc/kpageflags for the huge zero
 * page: Documentation/admin-guide/mm/pagemap.rst. Slower than the ioctl by far,
 * and it can't arm anything.
 */
#pragma once

#include "migrate/memory/pagescan.h"

/* As pagescan_run in its mode PAGESCAN_LOOK, for all categories but
 * PAGESCAN_WRITTEN and PAGESCAN_GUARD, which nobody knows here (-EOPNOTSUPP). */
int page_state_scan(int pagemap_fd, const struct pagescan_query *query, uint64_t start, uint64_t end,
		 struct pagescan_region *regions, size_t size, size_t *ret_n, uint64_t *ret_end,
		 struct error *err);
