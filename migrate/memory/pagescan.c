#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>

#include "engine/base/cleanup.h"
#include "migrate/memory/page_state.h"

#define SCAN_WP_MATCHING 1u
#define SCAN_CHECK_WPASYNC 2u

struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define SCAN_IOCTL _IOWR('f', 16, struct scan_arg)

int pagescan_run(int pagemap_fd, const struct pagescan_query *query, uint64_t start, uint64_t end,
		 struct pagescan_region *regions, size_t size, size_t *ret_n, uint64_t *ret_end,
		 struct error *err)
{
	static const uint64_t flags[] = {
		[PAGESCAN_LOOK] = 0,
		[PAGESCAN_CHECK] = SCAN_CHECK_WPASYNC,
		[PAGESCAN_ARM] = SCAN_CHECK_WPASYNC | SCAN_WP_MATCHING,
	};
	struct scan_arg arg = {
		.size = sizeof(arg),
		.flags = flags[query->mode],
		.start = start,
		.end = end,
		.vec = (uintptr_t)regions,
		.vec_len = size,
		.category_inverted = query->mustnt | query->any_not,
		.category_mask = query->must | query->mustnt,
		.category_anyof_mask = query->any | query->any_not,
		.return_mask = query->tell,
	};
	int n = ioctl(pagemap_fd, SCAN_IOCTL, &arg);

	if (n < 0 && errno == ENOTTY)
		return page_state_scan(pagemap_fd, query, start, end, regions, size, ret_n, ret_end,
				    err);
	if (n < 0)
		return error_set(err, errno, "scan pages %#llx-%#llx: %s",
				 (unsigned long long)start, (unsigned long long)end,
				 strerror(errno));
	if ((size_t)n > size || arg.walk_end <= start || arg.walk_end > end)
		return error_set(err, EIO, "scan pages %#llx-%#llx: the kernel ended at %#llx",
				 (unsigned long long)start, (unsigned long long)end,
				 (unsigned long long)arg.walk_end);
	*ret_n = (size_t)n;
	*ret_end = arg.walk_end;
	/* The kernel gathers 512 regions at a time, and after more than those its
	 * walk_end may be that of an earlier 512. */
	if (n > 0 && regions[n - 1].end > *ret_end)
		*ret_end = regions[n - 1].end;
	return 0;
}

uint64_t pagescan_guards(void)
{
	CLEANUP(fd_closep) int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	struct pagescan_query query = { .mustnt = PAGESCAN_GUARD };
	uint64_t start = (uintptr_t)&query / PAGESCAN_PAGE * PAGESCAN_PAGE, end;
	struct pagescan_region region;
	struct error ignored;
	size_t n;

	if (fd < 0 || pagescan_run(fd, &query, start, start + PAGESCAN_PAGE, &region, 1, &n, &end,
				   &ignored) < 0)
		return 0;
	return PAGESCAN_GUARD;
}
