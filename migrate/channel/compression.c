#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/channel/compression.h"
#include "proto/block.h"

#define WINDOW_BYTES (4u << 20)
#define FIRST_PATIENCE 8u		/* windows until a neighbour is tried again */
#define LAST_PATIENCE 256u
#define SKIP_MAX 16u
#define FIRST_LEVEL 1u

/* From none to hardest. */
static const int levels[COMPRESSION_LEVELS] = { BLOCK_LEVEL_STORE, -10, -3, 1, 3 };

void compression_init(struct compression *c, int level)
{
	*c = (struct compression){ .fixed = level, .now = FIRST_LEVEL, .best = FIRST_LEVEL };
	for (unsigned i = 0; i < COMPRESSION_LEVELS; i++)
		c->level[i].patience = FIRST_PATIENCE;
}

int compression_level(const struct compression *c)
{
	if (c->fixed != COMPRESSION_AUTO)
		return c->fixed;
	return c->skip ? BLOCK_LEVEL_STORE : levels[c->now];
}

static void learn(struct compression *c)
{
	double cost = (double)(c->window.compress_us + c->window.send_us + 1) / (double)c->window.raw;
	double before = c->level[c->now].cost;

	/* What was measured long ago may have been on another link. */
	c->level[c->now].cost = before > 0 && c->now == c->best ? (before + cost) / 2 : cost;
	c->level[c->now].link_bound = c->window.send_us > c->window.compress_us;
}

/* Is this neighbour of the best worth a window? Harder ones while the link takes
 * most of the time, faster ones while compressing does. */
static bool is_promising(const struct compression *c, unsigned i)
{
	return i < COMPRESSION_LEVELS && c->windows >= c->level[i].next_try &&
	       c->level[c->best].link_bound == (i > c->best);
}

/* The cheapest; a harder one must be so by a tenth. */
static unsigned find_best(const struct compression *c)
{
	unsigned best = 0;

	for (unsigned i = 1; i < COMPRESSION_LEVELS; i++)
		if (c->level[i].cost > 0 && c->level[i].cost < 0.9 * c->level[best].cost)
			best = i;
	return best;
}

static void choose(struct compression *c)
{
	unsigned tried = c->now;

	c->best = find_best(c);
	if (tried == c->best)
		c->level[tried].patience = FIRST_PATIENCE;
	else if (c->level[tried].patience < LAST_PATIENCE)
		c->level[tried].patience *= 2;
	c->level[tried].next_try = c->windows + c->level[tried].patience;
	c->now = c->best;
	if (is_promising(c, c->best + 1))
		c->now = c->best + 1;
	else if (c->best > 0 && is_promising(c, c->best - 1))
		c->now = c->best - 1;
}

/* The first blocks that don't shrink are followed by 1, 2, 4, ... that nobody
 * tries; one that does shrink ends that. */
static void give_up_on_blocks(struct compression *c, uint64_t raw, uint64_t wire)
{
	if (c->skip) {
		c->skip--;
		return;
	}
	if (c->now == 0 || wire < raw) {
		c->failures = 0;
		return;
	}
	if (4 * c->window.compress_us < c->window.send_us)
		return;			/* the link is what we wait for: no block is too many */
	c->skip = c->failures < 4 ? 1u << c->failures++ : SKIP_MAX;
}

void compression_note(struct compression *c, uint64_t raw_bytes, uint64_t wire_bytes,
		      uint64_t compress_us, uint64_t send_us)
{
	if (c->fixed != COMPRESSION_AUTO)
		return;
	c->window.raw += raw_bytes;
	c->window.compress_us += compress_us;
	c->window.send_us += send_us;
	give_up_on_blocks(c, raw_bytes, wire_bytes);
	if (c->window.raw < WINDOW_BYTES)
		return;
	c->windows++;
	learn(c);
	choose(c);
	memset(&c->window, 0, sizeof(c->window));
}

int compression_parse(const char *text, int *ret, struct error *err)
{
	char *end;
	long v;

	*ret = COMPRESSION_AUTO;
	if (!text || !strcmp(text, "auto"))
		return 0;
	*ret = BLOCK_LEVEL_STORE;
	if (!strcmp(text, "none"))
		return 0;
	v = strtol(text, &end, 10);
	if (end == text || *end || v == 0 || v < block_level_min() || v > block_level_max())
		return error_set(err, EINVAL, "'%.20s' is not auto, none, or a zstd level from %d to %d", text,
				 block_level_min(), block_level_max());
	*ret = (int)v;
	return 0;
}
