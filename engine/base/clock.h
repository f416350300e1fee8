/*
 * clock.h - time in microseconds, the one unit of the project
 *
 * Durations are measured with clock_us (CLOCK_MONOTONIC), moments that leave
 * the process with clock_real_us (CLOCK_REALTIME since the epoch). A restored
 * container lives in a time namespace, so a pause can only be seen in real
 * time. See clock_gettime(2), time_namespaces(7).
 */
#pragma once

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_read_us(clockid_t id)
{
	struct timespec t;

	(void)clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static inline uint64_t clock_us(void)
{
	return clock_read_us(CLOCK_MONOTONIC);
}

static inline uint64_t clock_real_us(void)
{
	return clock_read_us(CLOCK_REALTIME);
}
