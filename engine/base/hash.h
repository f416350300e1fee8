/*
 * hash.h - a short number for a text that is the same each time
 *
 * FNV-1a with 64 bits, as draft-eastlake-fnv describes it. For names and places to begin
 * a search at; against nobody who chooses the text.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define HASH_START UINT64_C(14695981039346656037)

static inline uint64_t hash_add(uint64_t h, const void *data, size_t len)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * UINT64_C(1099511628211);
	return h;
}
