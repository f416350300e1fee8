/*
 * pages.h - what is inside a MEMORY tree: pages of address spaces and of shared objects
 *
 * The tree's bytes are records. A block (one DATA frame, unpacked) holds whole
 * records only. A record is a head of 24 bytes, little-endian, and for DATA the
 * pages themselves:
 *
 *	offset	size
 *	0	4	kind, PAGES_*
 *	4	4	pid of the address space's process, in the container;
 *			above PAGES_PID_MAX: number of a shared object, whose
 *			addresses are offsets
 *	8	8	address of the first page
 *	16	8	number of pages
 *
 *	PAGES_DATA	n pages of PAGES_SIZE bytes follow
 *	PAGES_ZERO	n pages are zero
 *	PAGES_DROP	the address space is void, the object gone; address and number are 0
 *	PAGES_POPULATED	in the last round: these pages are populated, none else
 *	PAGES_HASH	in the last round, when asked for: address is the hash of all
 *			of the address space's pages (store.h), n is 1
 *	PAGES_OBJECT	before an object's first page, and when it has another size or name:
 *			address is its size in bytes, and n bytes of description follow
 *
 * The target's object is at any time what the records so far make of it; what was
 * never sent is a hole. Its description is a head of PAGES_OBJECT_HEAD_BYTES and
 * the name:
 *
 *	0	4	kind, PAGES_SHMEM, PAGES_SYSV or PAGES_FILE
 *	4	4	log2 of the size of its huge pages, 0: ordinary ones
 *	8	4	seals (fcntl(2), F_GET_SEALS)
 *	12	4	length of the name
 *	16	8	its inode, by which CRIU's images name it; of PAGES_SYSV the id
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/error.h"

#define PAGES_SIZE 4096u
#define PAGES_PART_BYTES (2u << 20)
#define PAGES_HEAD_BYTES 24u
#define PAGES_ADDRESS_END (1ull << 57)		/* five-level page tables */
#define PAGES_PID_MAX (1u << 22)
#define PAGES_OBJECTS_MAX (1u << 22)
#define PAGES_OBJECT_HEAD_BYTES 24u
#define PAGES_NAME_MAX 4095u

enum pages_kind {
	PAGES_DATA = 1, PAGES_ZERO = 2, PAGES_DROP = 3, PAGES_POPULATED = 4, PAGES_HASH = 5, PAGES_OBJECT = 6,
};

struct pages {
	enum pages_kind kind;
	uint32_t pid;
	uint64_t address, n;
	const void *data;		/* PAGES_DATA and PAGES_OBJECT, into the block */
};

/* PAGES_SHMEM: memfd_create(2) and anonymous shared memory; PAGES_SYSV: shmget(2);
 * PAGES_FILE: a file of a tmpfs, whose name is its path in the container. */
enum pages_object_kind { PAGES_SHMEM = 1, PAGES_SYSV = 2, PAGES_FILE = 3 };

struct pages_object {
	enum pages_object_kind kind;
	uint32_t huge_shift, seals;
	uint64_t inode;
	char name[PAGES_NAME_MAX + 1];	/* without NUL and anything behind it */
};

static inline bool pages_is_object(uint32_t pid)
{
	return pid > PAGES_PID_MAX;
}

/* With several connections the pages of a process are dealt out in parts of 2 MiB, so
 * that each page comes over one of them only, in all rounds. A PAGES_DROP goes over
 * each, and is about what came over it. All else is the first connection's. */
static inline unsigned pages_connection(uint32_t pid, uint64_t address, unsigned connections)
{
	return (unsigned)((address / PAGES_PART_BYTES + pid) % connections);
}

/* Writes a head; the data goes behind it. */
void pages_encode_head(const struct pages *p, uint8_t ret[PAGES_HEAD_BYTES]);

/* Takes the next record from block (len bytes) at *at, and moves *at behind it.
 * Returns 0 and fills ret; 1 at the end of the block; -EPROTO. */
int pages_decode(const void *block, size_t len, size_t *at, struct pages *ret, struct error *err);

/* A description, as it follows the record's head. Returns its length. */
size_t pages_encode_object(const struct pages_object *o, uint8_t ret[PAGES_OBJECT_HEAD_BYTES + PAGES_NAME_MAX]);

/* Of a record that pages_decode has taken. -EPROTO. */
int pages_decode_object(const struct pages *p, struct pages_object *ret, struct error *err);
