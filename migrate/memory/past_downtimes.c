#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "migrate/memory/past_downtimes.h"

#define MEMORY_MAX (UINT64_C(1) << 50)
#define COST_MAX_US 60000000u
#define GB ((double)(1u << 30))

/* Each move weighs so much of the one after it. */
#define REMEMBERED 0.75

/* Of a node without a past: what a small container costs on an idle machine of 2026,
 * and what page tables add. */
#define GUESS_FIXED_US 40000.0
#define GUESS_PER_GB_US 3000.0
#define GUESS_LEAD_US 20000.0
#define GUESS_WEIGHT 0.1
#define PER_GB_MAX_US 50000.0

static bool is_sane(const struct past_downtime *p)
{
	return p->memory_bytes <= MEMORY_MAX && p->fixed_us && p->fixed_us <= COST_MAX_US &&
	       p->lead_us <= COST_MAX_US;
}

void past_downtimes_parse(struct past_downtimes *past, const char *text)
{
	struct past_downtime p;
	int len;

	past->n = 0;
	while (sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64 "%n", &p.memory_bytes, &p.fixed_us, &p.lead_us,
		      &len) == 3) {
		past_downtimes_add(past, &p);
		text += len;
	}
}

size_t past_downtimes_format(const struct past_downtimes *past, char *text)
{
	size_t len = 0;

	text[0] = '\0';
	for (size_t i = 0; i < past->n; i++)
		len += (size_t)snprintf(text + len, PAST_DOWNTIMES_TEXT - len, "%" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
					past->at[i].memory_bytes, past->at[i].fixed_us, past->at[i].lead_us);
	return len;
}

void past_downtimes_add(struct past_downtimes *past, const struct past_downtime *seen)
{
	if (!is_sane(seen))
		return;
	if (past->n == PAST_DOWNTIMES_MAX)
		memmove(past->at, past->at + 1, --past->n * sizeof(past->at[0]));
	past->at[past->n++] = *seen;
}

/* Weighted sums over (x, y). */
struct sums {
	double w, x, y, xx, xy, lead;
};

static void sum(struct sums *s, double weight, double x, double y, double lead)
{
	s->w += weight;
	s->x += weight * x;
	s->y += weight * y;
	s->xx += weight * x * x;
	s->xy += weight * x * y;
	s->lead += weight * lead;
}

static double between(double low, double v, double high)
{
	return v < low ? low : v > high ? high : v;
}

struct past_downtime past_downtimes_expect(const struct past_downtimes *past, uint64_t memory_bytes)
{
	double weight = 1, slope, base, x = (double)memory_bytes / GB;
	struct sums s = { 0 };

	for (size_t i = past->n; i-- > 0; weight *= REMEMBERED)
		sum(&s, weight, (double)past->at[i].memory_bytes / GB, (double)past->at[i].fixed_us,
		    (double)past->at[i].lead_us);
	/* the guess is a line, so two points of it */
	sum(&s, GUESS_WEIGHT, 0, GUESS_FIXED_US, GUESS_LEAD_US);
	sum(&s, GUESS_WEIGHT, 4, GUESS_FIXED_US + 4 * GUESS_PER_GB_US, GUESS_LEAD_US);
	slope = between(0, (s.w * s.xy - s.x * s.y) / (s.w * s.xx - s.x * s.x), PER_GB_MAX_US);
	base = (s.y - slope * s.x) / s.w;
	return (struct past_downtime){ .memory_bytes = memory_bytes,
				       .fixed_us = (uint64_t)between(1000, base + slope * x, COST_MAX_US),
				       .lead_us = (uint64_t)(s.lead / s.w) };
}
