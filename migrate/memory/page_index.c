#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/memory/page_index.h"

#define TABLE_MIN 64u

void page_index_clear(struct page_index *index)
{
	for (size_t i = 0; i < index->n; i++)
		free(index->chunks[i].pages);
	free(index->chunks);
	free(index->table);
	*index = (struct page_index){ 0 };
}

/* Where number is, or the empty place where it would be. */
static size_t place_of(const struct page_index *index, uint64_t number)
{
	size_t mask = index->table_size - 1;
	size_t i = (size_t)((number * 0x9e3779b97f4a7c15u) >> 20) & mask;

	while (index->table[i] && index->chunks[index->table[i] - 1].number != number)
		i = (i + 1) & mask;
	return i;
}

struct page_chunk *page_index_find(const struct page_index *index, uint64_t number)
{
	uint32_t found;

	if (index->n == 0)
		return NULL;
	found = index->table[place_of(index, number)];
	return found ? &index->chunks[found - 1] : NULL;
}

static void fill_table(struct page_index *index)
{
	memset(index->table, 0, index->table_size * sizeof(*index->table));
	for (size_t i = 0; i < index->n; i++)
		index->table[place_of(index, index->chunks[i].number)] = (uint32_t)i + 1;
}

/* Twice the room; the table stays at most half full. */
static int grow(struct page_index *index, struct error *err)
{
	size_t capacity = index->capacity ? 2 * index->capacity : TABLE_MIN / 2;
	struct page_chunk *chunks = reallocarray(index->chunks, capacity, sizeof(*chunks));
	uint32_t *table;

	if (!chunks)
		return error_set(err, ENOMEM, "no memory for the index of %zu chunks", capacity);
	index->chunks = chunks;
	table = reallocarray(index->table, 2 * capacity, sizeof(*table));
	if (!table)
		return error_set(err, ENOMEM, "no memory for the index of %zu chunks", capacity);
	index->table = table;
	index->table_size = 2 * capacity;
	index->capacity = capacity;
	fill_table(index);
	return 0;
}

int page_index_add(struct page_index *index, uint64_t number, struct page_chunk **ret,
		   struct error *err)
{
	if (index->n == index->capacity && grow(index, err) < 0)
		return -err->code;
	index->table[place_of(index, number)] = (uint32_t)index->n + 1;
	index->chunks[index->n] = (struct page_chunk){ .number = number };
	*ret = &index->chunks[index->n++];
	return 0;
}

int page_chunk_expand(struct page_chunk *chunk, uint32_t page, struct error *err)
{
	uint32_t *pages = malloc(CHUNK_PAGES * sizeof(*pages));

	if (!pages)
		return error_set(err, ENOMEM, "no memory for the index of a chunk");
	for (size_t i = 0; i < CHUNK_PAGES; i++)
		pages[i] = page;
	chunk->pages = pages;
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct page_chunk *x = a, *y = b;

	return (x->number > y->number) - (x->number < y->number);
}

void page_index_sort(struct page_index *index)
{
	if (index->n == 0)
		return;
	qsort(index->chunks, index->n, sizeof(*index->chunks), compare);
	fill_table(index);
}
