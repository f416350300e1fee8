/*
 * pattern.h - what a page must contain, as a function of its key and version
 *
 * Every word of a page differs from every other word of it, of any other page and
 * of any other version of it. So a page that is stale, empty, at a wrong place or
 * spoiled in a single bit is found, and pattern_tell says which of these it is.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define PAGE 4096u
#define PAGE_WORDS (PAGE / sizeof(uint64_t))

/* A version with this bit, and version 0, is a page of zeros. */
#define PATTERN_HOLE (1u << 31)

static inline uint64_t pattern_mix(uint64_t x)
{
	x = (x ^ (x >> 31)) * 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 29)) * 0xd6e8feb86659fd93u;
	return x ^ (x >> 32);
}

static inline uint64_t pattern_word(uint64_t key, uint32_t version, size_t word)
{
	return pattern_mix(key + pattern_mix(version)) + word * 0xa0761d6478bd642fu;
}

static inline bool pattern_is_hole(uint32_t version)
{
	return version == 0 || (version & PATTERN_HOLE);
}

static inline void pattern_fill(void *page, uint64_t key, uint32_t version)
{
	uint64_t *words = page;
	uint64_t first = pattern_word(key, version, 0), step = pattern_word(key, version, 1) - first;

	if (pattern_is_hole(version)) {
		memset(page, 0, PAGE);
		return;
	}
	for (size_t i = 0; i < PAGE_WORDS; i++)
		words[i] = first + i * step;
}

static inline bool pattern_holds(const void *page, uint64_t key, uint32_t version)
{
	const uint64_t *words = page;
	uint64_t first = 0, step = 0, wrong = 0;

	if (!pattern_is_hole(version)) {
		first = pattern_word(key, version, 0);
		step = pattern_word(key, version, 1) - first;
	}
	for (size_t i = 0; i < PAGE_WORDS; i++)
		wrong |= words[i] ^ (first + i * step);
	return wrong == 0;
}

static size_t pattern_wrong_byte(const void *page, uint64_t key, uint32_t version)
{
	const unsigned char *bytes = page;
	unsigned char should[PAGE];
	size_t i = 0;

	pattern_fill(should, key, version);
	while (i < PAGE - 1 && bytes[i] == should[i])
		i++;
	return i;
}

/* Says what a wrong page is: "byte 17 of page 0x7f… is wrong; it is version 3 instead of 5". */
__attribute__((unused))
static void pattern_tell(char *text, size_t size, const void *page, uint64_t key, uint32_t version)
{
	size_t byte = pattern_wrong_byte(page, key, version);
	unsigned int should = version & ~PATTERN_HOLE;
	int n = snprintf(text, size, "byte %zu of page %p is wrong", byte, page);

	for (uint32_t old = should + 2; old-- > 0 && old + 1000 > should;)
		if (old != version && pattern_holds(page, key, old)) {
			(void)snprintf(text + n, size - (size_t)n, old ? "; it is version %u of %u%s" :
				       "; it is empty (%u of %u%s)", old, should,
				       version & PATTERN_HOLE ? " (empty)" : "");
			return;
		}
	(void)snprintf(text + n, size - (size_t)n, "; should be version %u%s", should,
		       version & PATTERN_HOLE ? " (empty)" : "");
}

/* The ways to spoil a page; each check must find each of them. */
enum plant {
	PLANT_NONE,
	PLANT_BIT,	/* one bit is wrong */
	PLANT_STALE,	/* it is what it was before the last write */
	PLANT_ZERO,	/* it is empty */
	PLANT_OTHER,	/* it is another page */
};

/* The page holds key and version, and version isn't a hole. */
__attribute__((unused))
static void pattern_spoil(void *page, uint64_t key, uint32_t version, enum plant how)
{
	unsigned char *bytes = page;

	switch (how) {
	case PLANT_BIT: bytes[pattern_mix(key + version) % PAGE] ^= 4; return;
	case PLANT_STALE: pattern_fill(page, key, version - 1); return;
	case PLANT_ZERO: memset(page, 0, PAGE); return;
	case PLANT_OTHER: pattern_fill(page, key + 1, version); return;
	case PLANT_NONE: return;
	}
}
