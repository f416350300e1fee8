/*
 * pages.h - what is inside a MEMORY tree: pages of address spaces
 *
 * The tree's bytes are records. A block (one DATA frame, unpacked) holds whole
 * records only. A record is a head of 24 bytes, little-endian, and for DATA the
 * pages themselves:
 *
 *	offset	size
 *	0	4	kind, PAGES_*
 *	4	4	pid of the address space's process, in the container
 *	8	8	address of the first page
 *	16	8	number of pages
 *
 *	PAGES_DATA	n pages of PAGES_SIZE bytes follow
 *	PAGES_ZERO	n pages are zero
 *	PAGES_DROP	the address space is void; address and number are 0
 *	PAGES_POPULATED	in the last round: these pages are populated, none else
 *	PAGES_HASH	in the last round, when asked for: address is the hash of all
 *			of the address space's pages (store.h), n is 1
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "engine/base/error.h"

#define PAGES_SIZE 4096u
#define PAGES_HEAD_BYTES 24u
#define PAGES_ADDRESS_END (1ull << 57)		/* five-level page tables */

enum pages_kind { PAGES_DATA = 1, PAGES_ZERO = 2, PAGES_DROP = 3, PAGES_POPULATED = 4, PAGES_HASH = 5 };

struct pages {
	enum pages_kind kind;
	uint32_t pid;
	uint64_t address, n;
	const void *data;		/* PAGES_DATA, into the block */
};

/* Writes a head; the data goes behind it. */
void pages_encode_head(const struct pages *p, uint8_t ret[PAGES_HEAD_BYTES]);

/* Takes the next record from block (len bytes) at *at, and moves *at behind it.
 * Returns 0 and fills ret; 1 at the end of the block; -EPROTO. */
int pages_decode(const void *block, size_t len, size_t *at, struct pages *ret, struct error *err);
