/*
 * memory.c - preloaded into CRIU: memory that somebody else carries
 *
 * At a dump (carried.h)
 *  ioctl    PAGEMAP_SCAN tells of no pages in carried ranges;
 *  lseek    SEEK_DATA finds no data in carried files in memory.
 *
 * At a restore (prepared.h) CRIU makes a file in memory and then opens the image
 * with its content, pagemap-shmem-ID.img. At that moment
 *  openat   puts the prepared file in the place of the one that memfd_create made,
 *           or copies it to what shmat attached.
 * CRIU's tasks close descriptors that they don't know, and have a /proc of their
 * own; so each prepared file is mapped when CRIU begins to read images, its tasks
 * inherit the mapping, and /proc/self/map_files makes a descriptor of it again. CRIU takes the
 * mapping away with all others when a task gets its own memory. In a user namespace
 * that is forbidden: see userns.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "criu-glue/shim/shim.h"

#define PAGE 4096ul

/* Set once by the constructor. */
static const struct shim_carried *carried;	/* both filled by our caller while CRIU waits */
static const struct shim_prepared *prepared;
static char *prepared_at[SHIM_OBJECTS_MAX];

/* What this task of CRIU made last: one of both, until its content is asked for. */
static int made_memfd = -1;
static unsigned made_flags;
static char *attached;

/* ---- dump ---- */

/* pagemap.rst of the kernel, "PAGEMAP_SCAN"; older headers don't have it. */
struct scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define SCAN_REGION_BYTES 24
#define SCAN_REQUEST _IOWR('f', 16, struct scan)

static unsigned long pid_of_pagemap(int fd)
{
	char link[32], path[64] = "";
	unsigned long pid = 0;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (readlink(link, path, sizeof(path) - 1) < 0 || sscanf(path, "/proc/%lu/pagemap", &pid) != 1)
		return 0;
	return pid;
}

/* The first range of pid that ends behind address. */
static const struct shim_range *find_carried(unsigned long pid, uint64_t address)
{
	const struct shim_range *r = carried->ranges, *end = r + carried->n;

	for (; r < end; r++)
		if (r->pid == pid && r->end > address)
			return r;
	return NULL;
}

/* Asks the kernel about the gaps between carried ranges. */
static long scan_gaps(int fd, unsigned long pid, struct scan *all)
{
	uint64_t at = all->start, found = 0;

	while (at < all->end) {
		const struct shim_range *r = find_carried(pid, at);
		uint64_t stop = r && r->start < all->end ? r->start : all->end;
		struct scan part = *all;
		long n;

		if (r && r->start <= at) {
			at = r->end < all->end ? r->end : all->end;
			continue;
		}
		part.start = at;
		part.end = stop;
		part.vec += found * SCAN_REGION_BYTES;
		part.vec_len -= found;
		n = syscall(SYS_ioctl, fd, SCAN_REQUEST, &part);
		if (n < 0)
			return n;
		found += (uint64_t)n;
		at = part.walk_end;
		if (at < stop || found == all->vec_len)
			break;
	}
	all->walk_end = at;
	return (long)found;
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	unsigned long pid;
	struct scan *scan;
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (request != SCAN_REQUEST || !carried || !carried->n)
		return (int)syscall(SYS_ioctl, fd, request, arg);
	scan = arg;
	pid = pid_of_pagemap(fd);
	if (!pid || scan->max_pages || !scan->vec_len || !find_carried(pid, 0))
		return (int)syscall(SYS_ioctl, fd, request, arg);
	return (int)scan_gaps(fd, pid, scan);
}

static bool is_sysv(int fd)
{
	char link[32], path[8] = "";

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	return readlink(link, path, sizeof(path) - 1) > 0 && !strncmp(path, "/SYSV", 5);
}

static bool is_carried_object(int fd)
{
	struct stat st;

	if (!carried || !carried->n_objects || fstat(fd, &st) < 0)
		return false;
	for (unsigned long i = 0; i < carried->n_objects; i++) {
		const struct shim_object *o = &carried->objects[i];

		if (o->dev == st.st_dev && o->ino == st.st_ino && (bool)o->sysv == is_sysv(fd))
			return true;
	}
	return false;
}

EXPORT off_t lseek64(int fd, off_t offset, int whence)
{
	if (whence == SEEK_DATA && is_carried_object(fd)) {
		errno = ENXIO;
		return -1;
	}
	return syscall(SYS_lseek, fd, offset, whence);
}

/* ---- restore ---- */

EXPORT int memfd_create(const char *name, unsigned flags)
{
	made_memfd = (int)syscall(SYS_memfd_create, name, flags);
	made_flags = flags;
	return made_memfd;
}

EXPORT void *shmat(int id, const void *address, int flags)
{
	long at = syscall(SYS_shmat, id, address, flags);

	attached = at == -1 ? NULL : (char *)at;
	made_memfd = -1;
	return (void *)at;
}

static unsigned long mapped_bytes(const struct shim_memory *m)
{
	unsigned long unit = m->huge_shift ? 1ul << m->huge_shift : PAGE;

	return (m->size + unit - 1) / unit * unit;
}

static int open_prepared(size_t i, int flags)
{
	unsigned long at = (unsigned long)prepared_at[i];
	char path[96];

	if (shim_has_userns())
		return shim_store_take(i);
	(void)snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", at, at + mapped_bytes(&prepared->list[i]));
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0);
}

/* Its data, to the same places. */
static bool copy_content(int fd, unsigned long size)
{
	off_t at = 0, end;

	while ((at = syscall(SYS_lseek, fd, at, SEEK_DATA)) >= 0 && (unsigned long)at < size) {
		end = syscall(SYS_lseek, fd, at, SEEK_HOLE);
		while (at < end) {
			ssize_t n = pread(fd, attached + at, (size_t)(end - at), at);

			if (n <= 0)
				return false;
			at += n;
		}
	}
	return at >= 0 || errno == ENXIO;
}

static bool give(size_t i)
{
	bool sysv = prepared->list[i].sysv;
	int fd = open_prepared(i, sysv ? O_RDONLY : O_RDWR);
	bool fine = fd >= 0 && (sysv ? copy_content(fd, prepared->list[i].size) : dup2(fd, made_memfd) >= 0);

	if (fd >= 0)
		(void)close(fd);
	return fine;
}

/* Numbers of System V segments, of ordinary and of huge memory are apart. */
static bool is_wanted(const struct shim_memory *m, unsigned long id)
{
	unsigned long huge = made_flags & MFD_HUGETLB ? made_flags >> MAP_HUGE_SHIFT : 0;

	if (m->id != id || (bool)m->sysv != (made_memfd < 0))
		return false;
	return m->sysv || !huge == !m->huge_shift;
}

static int open_of_caller(const struct shim_memory *m, int flags)
{
	char path[48];

	(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", m->pid, m->fd);
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0);
}

/* Opened for reading only: a mapping that could write would forbid seals. */
static void map_prepared(size_t i)
{
	const struct shim_memory *m = &prepared->list[i];
	int fd = open_of_caller(m, O_RDONLY);

	prepared_at[i] = fd < 0 ? MAP_FAILED :
		mmap(NULL, mapped_bytes(m), PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (prepared_at[i] == MAP_FAILED)
		abort();
	(void)close(fd);
}

static void keep_all(void)
{
	static int fds[SHIM_OBJECTS_MAX];
	bool fine = true;

	for (size_t i = 0; i < prepared->n; i++) {
		fds[i] = open_of_caller(&prepared->list[i], O_RDWR);
		fine &= fds[i] >= 0;
	}
	if (!fine || !shim_store_fill(fds, prepared->n))
		abort();
	for (size_t i = 0; i < prepared->n; i++)
		(void)close(fds[i]);
}

/* CRIU opens this image first, before it makes any task. */
static bool begins(const char *path)
{
	static bool begun;
	bool now = prepared && !begun && !strcmp(path, "inventory.img");

	begun |= now;
	return now;
}

bool shim_opens(const char *path)
{
	unsigned long id;
	bool fine = true, now = begins(path);

	if (now && shim_has_userns())
		keep_all();
	else if (now)
		for (size_t i = 0; i < prepared->n; i++)
			map_prepared(i);
	if (!prepared || sscanf(path, "pagemap-shmem-%lu.img", &id) != 1 || (made_memfd < 0 && !attached))
		return true;
	for (size_t i = 0; i < prepared->n; i++)
		if (is_wanted(&prepared->list[i], id)) {
			fine = give(i);
			break;
		}
	made_memfd = -1;
	attached = NULL;
	return fine;
}

/* ---- start ---- */

/* The list whose descriptor a variable of the environment tells; NULL: none. */
static void *map_list(const char *variable, size_t size)
{
	const char *number = getenv(variable);
	int fd = number ? atoi(number) : -1;
	void *list;

	(void)unsetenv(variable);
	if (fd < 0)
		return NULL;
	list = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	if (list == MAP_FAILED)
		abort();		/* rather nothing than the wrong memory */
	(void)close(fd);
	return list;
}

__attribute__((constructor)) static void memory_start(void)
{
	carried = map_list(SHIM_CARRIED, SHIM_CARRIED_BYTES);
	prepared = map_list(SHIM_PREPARED, SHIM_PREPARED_BYTES);
}
