#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <linux/mount.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "engine/base/cleanup.h"
#include "migrate/store_file.h"

/* A file on a tmpfs that is mounted nowhere: it goes with the last descriptor.
 * Unlike a memfd's, its huge pages need no setting of the whole host; they are
 * for who asks by madvise(2), see tmpfs(5). Returns -1 where that can't be had. */
static int open_huge(size_t len)
{
	CLEANUP(fd_closep) int context = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
	CLEANUP(fd_closep) int mount = -EBADF;
	char size[24];

	(void)snprintf(size, sizeof(size), "%zu", len);
	if (context < 0 ||
	    syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "huge", "advise", 0) < 0 ||
	    syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "size", size, 0) < 0 ||
	    syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -1;
	mount = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0);
	if (mount < 0)
		return -1;
	return openat(mount, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

/* A huge page is mapped as one only where address and offset agree. */
static void *map_aligned(int fd, size_t len)
{
	size_t room = len + STORE_FILE_ALIGN;
	uint8_t *all, *map;

	all = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (all == MAP_FAILED)
		return MAP_FAILED;
	map = all + (STORE_FILE_ALIGN - (uintptr_t)all % STORE_FILE_ALIGN) % STORE_FILE_ALIGN;
	if (map > all)
		(void)munmap(all, (size_t)(map - all));
	(void)munmap(map + len, (size_t)(all + room - (map + len)));
	return mmap(map, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0);
}

int store_file_open(size_t len, int *ret_fd, void **ret_map, struct error *err)
{
	CLEANUP(fd_closep) int fd = open_huge(len);
	void *map;

	if (fd < 0)
		fd = memfd_create("godwit-pages", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, (off_t)len) < 0)
		return error_set(err, errno, "make a file of %zu bytes in memory: %s", len,
				 strerror(errno));
	map = map_aligned(fd, len);
	if (map == MAP_FAILED)
		return error_set(err, errno, "map a file of %zu bytes: %s", len, strerror(errno));
	(void)madvise(map, len, MADV_HUGEPAGE);
	*ret_fd = TAKE_FD(fd);
	*ret_map = map;
	return 0;
}
