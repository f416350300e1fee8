/*
 * units.h - sizes, processor shares and durations as people write and read them
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "engine/base/error.h"

/* "1500000", "64k", "64m", "1.5g", "2t", also with b or ib after the letter, in
 * either case; powers of 1024. -EINVAL for anything else, -ERANGE when too big. */
int units_parse_size(const char *text, uint64_t *ret_bytes, struct error *err);

/* "2", "0.5", "1.25" processors as thousandths; more than 0, at most 100000. */
int units_parse_cpus(const char *text, uint32_t *ret_millis, struct error *err);

/* "10", "2.5", "300ms", "10s", "5m", "2h", "1d"; no unit means seconds. */
int units_parse_duration(const char *text, uint64_t *ret_us, struct error *err);

/* "1.5 GiB", "12 MiB", "0 B": three digits that matter at most. Returns buf. */
#define UNITS_TEXT_SIZE 32
char *units_format_size(uint64_t bytes, char buf[UNITS_TEXT_SIZE]);

/* "8 ms", "12.3 s", "4 min", "3 h", "2 days". Returns buf. */
char *units_format_duration(uint64_t us, char buf[UNITS_TEXT_SIZE]);
