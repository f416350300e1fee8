#include <errno.h>
#include <string.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include "migrate/memory/store.h"
#include "migrate/memory/uffd.h"

static int result_of(int code, const char *what, uint64_t address, enum uffd_result *ret,
		     struct error *err)
{
	static const struct {
		int code;
		enum uffd_result result;
	} known[] = {
		{ EEXIST, UFFD_PRESENT }, { EAGAIN, UFFD_BUSY }, { ENOMEM, UFFD_NO_MEMORY },
		{ ENOENT, UFFD_NO_MAPPING }, { ESRCH, UFFD_GONE },
		{ ENOSPC, UFFD_GONE },		/* before Linux 4.13 */
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].code == code) {
			*ret = known[i].result;
			return 0;
		}
	return error_set(err, code, "%s of memory at 0x%llx: %s", what,
			 (unsigned long long)address, strerror(code));
}

int uffd_copy(int uffd, uint64_t address, const void *data, size_t len,
	      enum uffd_result *ret, size_t *ret_len, struct error *err)
{
	struct uffdio_copy copy = { .dst = address, .src = (uintptr_t)data, .len = len };
	int code = ioctl(uffd, UFFDIO_COPY, &copy) < 0 ? errno : 0;

	if (code == 0 || copy.copy > 0) {
		*ret = UFFD_FILLED;
		*ret_len = copy.copy > 0 ? (size_t)copy.copy : len;
		return 0;
	}
	return result_of(copy.copy < 0 ? (int)-copy.copy : code, "filling", address, ret, err);
}

int uffd_zero(int uffd, uint64_t address, enum uffd_result *ret, struct error *err)
{
	struct uffdio_zeropage zero = { .range = { .start = address, .len = STORE_PAGE } };

	if (ioctl(uffd, UFFDIO_ZEROPAGE, &zero) == 0) {
		*ret = UFFD_FILLED;
		return 0;
	}
	return result_of(errno, "zeroing", address, ret, err);
}

void uffd_wake(int uffd, uint64_t address)
{
	struct uffdio_range range = { .start = address, .len = STORE_PAGE };

	(void)ioctl(uffd, UFFDIO_WAKE, &range);
}
