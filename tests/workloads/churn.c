/*
 * mmap, munmap, mremap, mprotect and madvise at random in an arena, with a model
 * of what each page must be: whether it is mapped, how it is protected, what is in
 * it. What is in a page goes with it when it is moved, so a page that was written
 * under one address is verified under another.
 */
#include "tests/workloads/busy.h"

#define ARENA ((unsigned char *)0x200000000000)
#define PAGES 4096
#define RANGE_MAX 96
#define WRITES 24

struct page {
	bool mapped;
	bool freed;		/* MADV_FREE: may be empty by now */
	int protection;
	uint32_t version;
	uint64_t key;
};

struct range {
	size_t first, count;
};

static struct page pages[PAGES];
static uint64_t next_key;

static unsigned char *at(size_t page)
{
	return ARENA + page * PAGE;
}

/* --- the model ----------------------------------------------------------------- */

static void model_map(size_t page)
{
	pages[page] = (struct page){ .mapped = true, .protection = PROT_READ | PROT_WRITE,
				     .key = workload_nonce + next_key++ };
}

static void model_empty(size_t page)
{
	pages[page].version |= PATTERN_HOLE;
	pages[page].freed = false;
}

static bool readable_holds(size_t page)
{
	struct page *p = &pages[page];

	if (p->freed && pattern_holds(at(page), p->key, PATTERN_HOLE)) {
		model_empty(page);
		return true;
	}
	return busy_page_holds(at(page), p->key, p->version);
}

static bool holds(size_t page)
{
	bool fine;

	if (!pages[page].mapped)
		return true;
	if (pages[page].protection & PROT_READ)
		return readable_holds(page);
	BUSY_HOLDS(mprotect(at(page), PAGE, PROT_READ) == 0);
	fine = readable_holds(page);
	BUSY_HOLDS(mprotect(at(page), PAGE, PROT_NONE) == 0);
	return fine;
}

/* Pages in a row, from a random one on, that are all mapped or all unmapped. */
static struct range random_range(bool mapped)
{
	struct range r = { .first = busy_random() % PAGES };
	size_t want = 1 + busy_random() % RANGE_MAX;

	while (r.count < want && r.first + r.count < PAGES && pages[r.first + r.count].mapped == mapped)
		r.count++;
	return r;
}

/* --- what is done -------------------------------------------------------------- */

static bool do_map(void)
{
	struct range r = random_range(false);
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE;

	if (r.count == 0)
		return true;
	if (busy_random() % 8 == 0)
		flags |= MAP_POPULATE;
	BUSY_HOLDS(mmap(at(r.first), r.count * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0) ==
		   at(r.first));
	for (size_t i = 0; i < r.count; i++)
		model_map(r.first + i);
	return true;
}

static bool do_unmap(void)
{
	struct range r = random_range(true);

	if (r.count == 0)
		return true;
	for (size_t i = 0; i < r.count; i++)
		if (!holds(r.first + i))
			return false;
	BUSY_HOLDS(munmap(at(r.first), r.count * PAGE) == 0);
	memset(&pages[r.first], 0, r.count * sizeof(*pages));
	return true;
}

static bool do_protect(void)
{
	static const int kinds[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE };
	struct range r = random_range(true);
	int kind = kinds[busy_random() % 4];

	if (r.count == 0)
		return true;
	BUSY_HOLDS(mprotect(at(r.first), r.count * PAGE, kind) == 0);
	for (size_t i = 0; i < r.count; i++)
		pages[r.first + i].protection = kind;
	return true;
}

static bool do_advise(void)
{
	static const int kinds[] = { MADV_DONTNEED, MADV_FREE, MADV_HUGEPAGE, MADV_NOHUGEPAGE };
	struct range r = random_range(true);
	int kind = kinds[busy_random() % 4];

	if (r.count == 0)
		return true;
	BUSY_HOLDS(madvise(at(r.first), r.count * PAGE, kind) == 0);
	for (size_t i = 0; i < r.count; i++)
		if (kind == MADV_DONTNEED)
			model_empty(r.first + i);
		else if (kind == MADV_FREE && !pattern_is_hole(pages[r.first + i].version))
			pages[r.first + i].freed = true;
	return true;
}

/* How many pages from there on are of one mapping, so that mremap takes them. */
static size_t of_one_mapping(struct range r)
{
	uintptr_t start, end, want = (uintptr_t)at(r.first);
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	size_t count = 0;

	while (maps && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx", &start, &end) == 2 && start <= want && want < end)
			count = (end - want) / PAGE;
	if (maps)
		(void)fclose(maps);
	return count < r.count ? count : r.count;
}

/* To where nothing is; now and then the empty mapping stays behind. */
static bool do_move(void)
{
	struct range from = random_range(true), to = random_range(false);
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
	bool stay = busy_random() % 4 == 0;

	if (from.count)
		from.count = of_one_mapping(from);
	if (from.count > to.count)
		from.count = to.count;
	if (from.count == 0)
		return true;
	if (stay)
		flags |= MREMAP_DONTUNMAP;
	BUSY_HOLDS(mremap(at(from.first), from.count * PAGE, from.count * PAGE, flags, at(to.first)) ==
		   at(to.first));
	memcpy(&pages[to.first], &pages[from.first], from.count * sizeof(*pages));
	for (size_t i = from.first; i < from.first + from.count; i++)
		if (stay)
			model_empty(i);
		else
			pages[i] = (struct page){ .mapped = false };
	return true;
}

/* Grows into what follows, in place, or shrinks. */
static bool do_resize(void)
{
	struct range r = random_range(true);
	size_t end = r.first + r.count, grow = 0;

	if (r.count == 0 || of_one_mapping(r) != r.count)
		return true;
	while (grow < 32 && end + grow < PAGES && !pages[end + grow].mapped)
		grow++;
	if (grow > 0) {
		BUSY_HOLDS(mremap(at(r.first), r.count * PAGE, (r.count + grow) * PAGE, 0) == at(r.first));
		for (size_t i = 0; i < grow; i++) {
			model_map(end + i);
			pages[end + i].protection = pages[r.first].protection;
		}
		return true;
	}
	BUSY_HOLDS(mremap(at(r.first), r.count * PAGE, PAGE, 0) == at(r.first));
	memset(&pages[r.first + 1], 0, (r.count - 1) * sizeof(*pages));
	return true;
}

static bool do_write(void)
{
	for (int i = 0; i < WRITES; i++) {
		size_t page = busy_random() % PAGES;
		struct page *p = &pages[page];

		if (!holds(page))
			return false;
		if (!p->mapped || !(p->protection & PROT_WRITE))
			continue;
		p->version = (p->version & ~PATTERN_HOLE) + 1;
		p->freed = false;
		pattern_fill(at(page), p->key, p->version);
	}
	return true;
}

static bool step(void *ctx)
{
	static bool (*const deeds[])(void) = {
		do_map, do_map, do_unmap, do_protect, do_advise, do_move, do_resize,
	};

	(void)ctx;
	return do_write() && deeds[busy_random() % (sizeof(deeds) / sizeof(*deeds))]();
}

/* --- all of it ----------------------------------------------------------------- */

/* What the kernel says of each page: -1 is not mapped, else its protection. */
static bool read_maps(signed char *protection)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	uintptr_t start, end;
	char line[512], prot[5];

	memset(protection, -1, PAGES);
	BUSY_HOLDS(maps);
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %4s", &start, &end, prot) != 3)
			continue;
		if (start < (uintptr_t)ARENA || end > (uintptr_t)at(PAGES))
			continue;
		memset(protection + (start - (uintptr_t)ARENA) / PAGE,
		       (prot[0] == 'r' ? PROT_READ : 0) | (prot[1] == 'w' ? PROT_WRITE : 0),
		       (end - start) / PAGE);
	}
	(void)fclose(maps);
	return true;
}

static bool all(void *ctx)
{
	signed char protection[PAGES];

	(void)ctx;
	if (!read_maps(protection))
		return false;
	for (size_t i = 0; i < PAGES; i++) {
		if (protection[i] != (pages[i].mapped ? pages[i].protection : -1))
			return busy_blame("page %zu has protection %d instead of %d (-1: not mapped)", i,
					  protection[i], pages[i].mapped ? pages[i].protection : -1);
		if (!holds(i))
			return false;
	}
	return true;
}

static void plant(void *ctx, enum plant how)
{
	size_t page = busy_random() % PAGES;

	(void)ctx;
	while (!pages[page].mapped || !(pages[page].protection & PROT_WRITE))
		page = (page + 1) % PAGES;
	pages[page].version = 2;
	pages[page].freed = false;
	pattern_fill(at(page), pages[page].key, 2);
	pattern_spoil(at(page), pages[page].key, 2, how);
}

static const struct busy_work work = { step, all, plant };

static void workload_setup(int argc, char **argv)
{
	(void)argc, (void)argv;
	busy_init(-1);
	busy_thread(&work, NULL);
}
