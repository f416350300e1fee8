/*
 * fault.h - named places where a test can make things go wrong
 *
 * A fault is set in the environment, GODWIT_FAULT=NAME[,NAME]..., and does
 * nothing where its name is not. The names:
 *
 *   memory-hash   the source tells a wrong hash of memory (--verify)
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

bool fault_is_set(const char *name);

/* A bit to flip, or 0: value ^ fault_bits("name"). */
static inline uint64_t fault_bits(const char *name)
{
	return fault_is_set(name) ? 1 : 0;
}
