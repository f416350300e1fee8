#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/base/cleanup.h"
#include "migrate/memory/page_state.h"

#define ENTRY_SOFT_DIRTY (UINT64_C(1) << 55)
#define ENTRY_FILE (UINT64_C(1) << 61)
#define ENTRY_SWAPPED (UINT64_C(1) << 62)
#define ENTRY_PRESENT (UINT64_C(1) << 63)
#define ENTRY_FRAME ((UINT64_C(1) << 55) - 1)
#define FLAG_ZERO_PAGE (UINT64_C(1) << 24)
#define HUGE_PAGES 512u
#define PIECE 512u

struct zeroes {
	uint64_t frame;		/* of the zero page; 0: not known */
	uint64_t huge;		/* first page of the block known to be the huge one, or 1 */
	int flags_fd;
};

/* The frame that reading untouched memory of our own maps. */
static uint64_t find_zero_frame(void)
{
	CLEANUP(fd_closep) int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	char *page = mmap(NULL, PAGESCAN_PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t entry = 0;

	if (page == MAP_FAILED)
		return 0;
	(void)*(volatile char *)page;
	if (fd < 0 || pread(fd, &entry, sizeof(entry),
			    (off_t)((uintptr_t)page / PAGESCAN_PAGE * sizeof(entry))) != sizeof(entry))
		entry = 0;
	(void)munmap(page, PAGESCAN_PAGE);
	return entry & ENTRY_FRAME;
}

/* Only a block that begins at a multiple of its size can be the huge one. */
static bool is_zero(struct zeroes *z, uint64_t page, uint64_t entry)
{
	uint64_t frame = entry & ENTRY_FRAME, flags = 0;
	uint64_t block = page - page % HUGE_PAGES, first = frame - page % HUGE_PAGES;

	if (!(entry & ENTRY_PRESENT) || !frame)
		return false;
	if (frame == z->frame)
		return true;
	if (frame % HUGE_PAGES != page % HUGE_PAGES)
		return false;
	if (z->huge != block && z->flags_fd >= 0 &&
	    pread(z->flags_fd, &flags, sizeof(flags), (off_t)(first * sizeof(flags))) ==
		    sizeof(flags) &&
	    (flags & FLAG_ZERO_PAGE))
		z->huge = block;
	return z->huge == block;
}

static uint64_t categories(struct zeroes *z, const struct pagescan_query *query, uint64_t page,
			   uint64_t entry)
{
	uint64_t all = (entry & ENTRY_PRESENT ? PAGESCAN_PRESENT : 0) |
		       (entry & ENTRY_SWAPPED ? PAGESCAN_SWAPPED : 0) |
		       (entry & ENTRY_FILE ? PAGESCAN_FILE : 0) |
		       (entry & ENTRY_SOFT_DIRTY ? PAGESCAN_SOFT_DIRTY : 0);

	if (((query->must | query->mustnt | query->any | query->any_not) & PAGESCAN_PFNZERO) &&
	    is_zero(z, page, entry))
		all |= PAGESCAN_PFNZERO;
	return all;
}

static bool matches(const struct pagescan_query *q, uint64_t all)
{
	bool any = !(q->any | q->any_not) || (all & q->any) || (~all & q->any_not);

	return (all & q->must) == q->must && !(all & q->mustnt) && any;
}

/* False when there is no room for it. */
static bool add_page(struct pagescan_region *regions, size_t size, size_t *n, uint64_t address,
		     uint64_t tell)
{
	if (*n && regions[*n - 1].end == address && regions[*n - 1].categories == tell) {
		regions[*n - 1].end += PAGESCAN_PAGE;
		return true;
	}
	if (*n == size)
		return false;
	regions[(*n)++] = (struct pagescan_region){ address, address + PAGESCAN_PAGE, tell };
	return true;
}

int page_state_scan(int pagemap_fd, const struct pagescan_query *query, uint64_t start, uint64_t end,
		 struct pagescan_region *regions, size_t size, size_t *ret_n, uint64_t *ret_end,
		 struct error *err)
{
	CLEANUP(fd_closep) int flags_fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	struct zeroes zeroes = { find_zero_frame(), 1, flags_fd };
	uint64_t entries[PIECE], page = start / PAGESCAN_PAGE, last = end / PAGESCAN_PAGE;
	size_t found = 0;

	if (query->mode != PAGESCAN_LOOK || ((query->must | query->mustnt | query->any | query->any_not) &
					     (PAGESCAN_WRITTEN | PAGESCAN_GUARD)))
		return error_set(err, EOPNOTSUPP, "this kernel has no PAGEMAP_SCAN");
	while (page < last) {
		size_t want = last - page < PIECE ? last - page : PIECE;
		ssize_t r = pread(pagemap_fd, entries, want * sizeof(*entries),
				  (off_t)(page * sizeof(*entries)));

		if (r < 0)
			return error_set(err, errno, "read pagemap: %s", strerror(errno));
		if (r < (ssize_t)sizeof(*entries))
			return error_set(err, ESRCH, "read pagemap: its memory is gone");
		for (size_t i = 0; i < (size_t)r / sizeof(*entries); i++, page++) {
			uint64_t all = categories(&zeroes, query, page, entries[i]);

			if (!matches(query, all))
				continue;
			if (!add_page(regions, size, &found, page * PAGESCAN_PAGE,
				      all & query->tell)) {
				*ret_n = found;
				*ret_end = page * PAGESCAN_PAGE;
				return 0;
			}
		}
	}
	*ret_n = found;
	*ret_end = end;
	return 0;
}
