/*
 * random.h - names that nobody else makes or guesses
 */
#pragma once

#include <stddef.h>

#include "engine/base/error.h"

/* Lower-case hex digits of getrandom(2), and a NUL: ret has room for digits + 1; digits is even, at most 64. */
int random_hex(char *ret, size_t digits, struct error *err);
