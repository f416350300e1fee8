/*
 * uffd.h - filling memory of another process through its userfaultfd
 *
 * userfaultfd(2), UFFDIO_COPY and UFFDIO_ZEROPAGE. While the process changes
 * its mappings (an event waits to be read, or has just been read) nothing can
 * be filled: UFFD_BUSY. So what was looked up for an address before a fill that
 * succeeds was not out of date.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "engine/base/error.h"

enum uffd_result {
	UFFD_FILLED,
	UFFD_PRESENT,			/* the first page was there already */
	UFFD_BUSY,			/* try again */
	UFFD_NO_MEMORY,			/* the container's, or the host's */
	UFFD_NO_MAPPING,		/* not one mapping for all of it */
	UFFD_GONE,			/* the process has ended or executed */
};

/* Fills len bytes at address and wakes who waits for them. *ret_len says how
 * much of it was filled (UFFD_FILLED). All sizes in whole pages. */
int uffd_copy(int uffd, uint64_t address, const void *data, size_t len,
	      enum uffd_result *ret, size_t *ret_len, struct error *err);

/* One page of zeroes. */
int uffd_zero(int uffd, uint64_t address, enum uffd_result *ret, struct error *err);

/* Who waits for the page looks again. */
void uffd_wake(int uffd, uint64_t address);
