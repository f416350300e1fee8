/*
 * fuzz.h - what a fuzz target gives
 *
 * Called with any bytes, again and again in one process: keeps no state, leaks
 * nothing, aborts when a promise is broken. Returns 0.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
