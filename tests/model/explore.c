#include <stdlib.h>
#include <string.h>

#include "tests/model/explore.h"

#define FIRST_SIZE (1u << 16)

struct edge {
	uint32_t from, to;
};

struct search {
	struct visit visit;		/* first: found() gets it back */
	struct world *worlds;
	uint32_t *parent;
	size_t n, size;
	uint32_t *table;		/* number + 1 of the world; 0: free */
	size_t table_size;
	struct edge *edges;		/* of what happens by itself */
	size_t n_edges, edges_size;
	uint32_t at;
	size_t steps;
	uint32_t broken;		/* number + 1 */
	struct world only;		/* what a trace looks for */
	char how[96];
};

static void *more(void *old, size_t n, size_t each)
{
	void *p = realloc(old, n * each);

	if (!p)
		abort();
	return p;
}

/* FNV-1a, by words. */
static size_t hash(const struct world *w)
{
	uint64_t h = 14695981039346656037u, word;

	for (size_t i = 0; i < sizeof(*w) / 8; i++) {
		memcpy(&word, (const char *)w + 8 * i, 8);
		h = (h ^ word) * 1099511628211u;
		h ^= h >> 29;
	}
	return (size_t)h;
}

static uint32_t *place(const struct search *s, const struct world *w)
{
	size_t i = hash(w) & (s->table_size - 1);

	while (s->table[i] && memcmp(&s->worlds[s->table[i] - 1], w, sizeof(*w)) != 0)
		i = (i + 1) & (s->table_size - 1);
	return &s->table[i];
}

static void grow(struct search *s)
{
	s->size = s->size ? 2 * s->size : FIRST_SIZE;
	s->worlds = more(s->worlds, s->size, sizeof(*s->worlds));
	s->parent = more(s->parent, s->size, sizeof(*s->parent));
	s->table_size = 2 * s->size;
	free(s->table);
	s->table = calloc(s->table_size, sizeof(*s->table));
	if (!s->table)
		abort();
	for (size_t i = 0; i < s->n; i++)
		*place(s, &s->worlds[i]) = (uint32_t)i + 1;
}

static uint32_t add(struct search *s, const struct world *w)
{
	uint32_t *there;

	if (s->n == s->size)
		grow(s);
	there = place(s, w);
	if (!*there) {
		s->worlds[s->n] = *w;
		s->parent[s->n] = s->at;
		*there = (uint32_t)++s->n;
		if (w->broken && !s->broken)
			s->broken = *there;
	}
	return *there - 1;
}

static void take(struct visit *v, const struct world *next, enum step_kind kind)
{
	struct search *s = (struct search *)(void *)v;
	uint32_t to = add(s, next);

	s->steps++;
	if (kind != STEP_WORK)
		return;
	if (s->n_edges == s->edges_size) {
		s->edges_size = s->edges_size ? 2 * s->edges_size : FIRST_SIZE;
		s->edges = more(s->edges, s->edges_size, sizeof(*s->edges));
	}
	s->edges[s->n_edges++] = (struct edge){ s->at, to };
}

/* ---- does it settle ---- */

static int by_end(const void *a, const void *b)
{
	const struct edge *x = a, *y = b;

	return x->to < y->to ? -1 : x->to > y->to;
}

static const struct edge *first_to(const struct search *s, uint32_t to)
{
	size_t low = 0, high = s->n_edges;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (s->edges[middle].to < to)
			low = middle + 1;
		else
			high = middle;
	}
	return &s->edges[low];
}

/* Marks all from which a settled world is reached; returns how many settled ones there are. */
static size_t mark_good(struct search *s, uint8_t *good)
{
	uint32_t *queue = more(NULL, s->n, sizeof(*queue));
	size_t head = 0, tail = 0, settled;

	qsort(s->edges, s->n_edges, sizeof(*s->edges), by_end);
	for (size_t i = 0; i < s->n; i++)
		if (world_is_settled(&s->worlds[i])) {
			good[i] = 1;
			queue[tail++] = (uint32_t)i;
		}
	settled = tail;
	while (head < tail) {
		uint32_t to = queue[head++];

		for (const struct edge *e = first_to(s, to); e < s->edges + s->n_edges && e->to == to; e++)
			if (!good[e->from]) {
				good[e->from] = 1;
				queue[tail++] = e->from;
			}
	}
	free(queue);
	return settled;
}

/* ---- how it came to that ---- */

static void compare(struct visit *v, const struct world *next, enum step_kind kind)
{
	struct search *s = (struct search *)(void *)v;

	(void)kind;
	if (!s->how[0] && memcmp(next, &s->only, sizeof(*next)) == 0)
		(void)snprintf(s->how, sizeof(s->how), "%s", v->what);
}

static void tell(struct search *s, const struct rules *rules, uint32_t to, FILE *out)
{
	if (to == 0)
		return;
	tell(s, rules, s->parent[to], out);
	s->only = s->worlds[to];
	s->how[0] = '\0';
	s->visit.found = compare;
	world_next(&s->worlds[s->parent[to]], rules, &s->visit);
	fprintf(out, "\t%s\n", s->how);
}

struct explored explore(const struct rules *rules, FILE *trace)
{
	struct search s = { .visit.found = take };
	struct world begin = world_begin();
	struct explored e = { 0 };
	uint8_t *good;

	(void)add(&s, &begin);
	for (; s.at < s.n && !s.broken; s.at++) {
		struct world w = s.worlds[s.at];	/* which may move */

		world_next(&w, rules, &s.visit);
	}
	good = calloc(s.n, 1);
	if (!good)
		abort();
	e = (struct explored){ .worlds = s.n, .steps = s.steps };
	if (s.broken) {
		e.broken = (enum broken)s.worlds[s.broken - 1].broken;
		if (trace)
			tell(&s, rules, s.broken - 1, trace);
	} else {
		e.settled = mark_good(&s, good);
		for (uint32_t i = 0; i < s.n; i++)
			if (!good[i] && !e.stuck++ && trace)
				tell(&s, rules, i, trace);
	}
	free(good);
	free(s.edges);
	free(s.table);
	free(s.parent);
	free(s.worlds);
	return e;
}
