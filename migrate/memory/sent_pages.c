#include <stdlib.h>
#include <string.h>

#include "migrate/memory/sent_pages.h"
#include "proto/checksum.h"
#include "proto/pages.h"

#define CHUNKS 4096u
#define CHUNK_PAGES 512u
#define PROBES 8u			/* places where a chunk may be */

struct chunk {
	uint64_t space, number;
	bool used;
	uint64_t hash[CHUNK_PAGES];	/* 0: not sent */
};

struct sent_pages {
	struct chunk *last;		/* the one that was asked for last, or NULL */
	uint64_t n;
	struct chunk chunks[];
};

/* calloc of so much takes memory only where it is written. */
int sent_pages_new(unsigned tables, struct sent_pages **ret, struct error *err)
{
	struct sent_pages *s = calloc(1, sizeof(*s) + CHUNKS / tables * sizeof(*s->chunks));

	if (!s)
		return error_set(err, ENOMEM, "no memory for hashes of pages");
	s->n = CHUNKS / tables;
	*ret = s;
	return 0;
}

void sent_pages_free(struct sent_pages *s)
{
	free(s);
}

static bool is_it(const struct chunk *c, uint64_t space, uint64_t number)
{
	return c->used && c->space == space && c->number == number;
}

/* Where the chunk is, or the first free place for it, or the one that must give way. */
static struct chunk *place_of(struct sent_pages *s, uint64_t space, uint64_t number)
{
	const uint64_t key[2] = { space, number };
	uint64_t first = checksum_of(0, key, sizeof(key));
	struct chunk *place = NULL;

	for (uint64_t i = 0; i < PROBES; i++) {
		struct chunk *c = &s->chunks[(first + i) % s->n];

		if (is_it(c, space, number))
			return c;
		if (!place && !c->used)
			place = c;
	}
	return place ? place : &s->chunks[first % s->n];
}

static struct chunk *find(struct sent_pages *s, uint64_t space, uint64_t number)
{
	if (!s->last || !is_it(s->last, space, number))
		s->last = place_of(s, space, number);
	return s->last;
}

bool sent_pages_same(struct sent_pages *s, uint64_t space, uint64_t address, uint64_t hash)
{
	uint64_t page = address / PAGES_SIZE, number = page / CHUNK_PAGES;
	struct chunk *c = find(s, space, number);
	bool same;

	if (!is_it(c, space, number)) {
		memset(c, 0, sizeof(*c));
		c->space = space;
		c->number = number;
		c->used = true;
	}
	hash = hash ? hash : 1;
	same = c->hash[page % CHUNK_PAGES] == hash;
	c->hash[page % CHUNK_PAGES] = hash;
	return same;
}

