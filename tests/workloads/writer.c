/*
 * writer MB_PER_S MB: one thread that rewrites its pages in turn at a rate that it
 * is told (0: as fast as it can), and verifies each before. Tells the rate since
 * the last question.
 */
#include <time.h>

#include "tests/workloads/region.h"

#define SLICE_US 1000

static struct region region;
static uint64_t rate, begun_us, written, next;
static uint64_t told_us, told_pages;

static uint64_t now_us(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* Catches up with what is due; after a long stop it doesn't, but begins anew. */
static bool step(void *ctx)
{
	uint64_t now = now_us(), due = written + 256;

	(void)ctx;
	if (rate) {
		due = (now - begun_us) * rate / PAGE;
		if (due > written + rate * SLICE_US * 20 / PAGE) {
			begun_us = now;
			due = written = 0;
		}
	}
	for (; written < due; written++) {
		if (!region_page_holds(&region, next))
			return false;
		region_write(&region, next);
		next = (next + 1) % region.n_pages;
	}
	if (rate)
		(void)usleep(SLICE_US);
	return true;
}

static bool tell(void)
{
	uint64_t now = now_us();

	(void)snprintf(workload_note, sizeof(workload_note), "%.1f MB/s",
		       (double)(region.total - told_pages) * PAGE / (double)(now - told_us));
	told_us = now;
	told_pages = region.total;
	return true;
}

static const struct busy_work work = { step, region_all, region_plant };

static void workload_setup(int argc, char **argv)
{
	rate = region_argument(argc, argv, 1, 100);	/* MB/s is bytes per microsecond */
	busy_init(-1);
	busy_also = tell;
	busy_pause_us = 0;
	region_init(&region, region_argument(argc, argv, 2, 64) * 256, 0, 0);
	region_write_all(&region);
	begun_us = told_us = now_us();
	told_pages = region.total;
	busy_thread(&work, &region);
}
