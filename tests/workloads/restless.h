/*
 * restless.h - changes a tree of files in every way, again and again
 *
 * Files are made, appended to, overwritten, cut, made sparse, mapped, renamed, exchanged, linked and removed,
 * also while they are open; attributes, owners, modes and times are changed, times set back too. What does not
 * work, because it is not there or not allowed, is left out.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/xattr.h>
#include <unistd.h>

#define RESTLESS_HELD 4u			/* files that stay open, or mapped */
#define RESTLESS_MAP (256u << 10)

struct restless {
	int dir;
	bool tame;			/* what stays open is at the top, where CRIU finds its folder again */
	uint64_t random;
	int open[RESTLESS_HELD];
	char *maps[RESTLESS_HELD];
};

static inline unsigned restless_pick(struct restless *c, unsigned n)
{
	c->random = c->random * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(c->random >> 33) % n;
}

/* Some name, at most three folders deep: the same ones come again. */
static inline void restless_path(struct restless *c, char path[64])
{
	static const char *const names[] = { "a", "a-b", "b", "c.d", "e", "f f" };
	unsigned depth = restless_pick(c, 3);

	path[0] = '\0';
	for (unsigned i = 0; i <= depth; i++) {
		if (i)
			strcat(path, "/");
		strcat(path, names[restless_pick(c, 6)]);
	}
}

/* The attribute of a file that is there; NULL: none. */
static inline void restless_attribute(int dir, const char *path, const char *name, const char *value)
{
	char full[128];
	int r;

	(void)snprintf(full, sizeof(full), "/proc/self/fd/%d/%s", dir, path);
	r = value ? lsetxattr(full, name, value, strlen(value), 0) : lremovexattr(full, name);
	(void)r;
}

static inline void restless_write(int fd, off_t at, size_t len, int seed)
{
	char piece[4096];
	unsigned x = (unsigned)seed * 2654435761u + 1;

	while (len) {
		size_t n = len < sizeof(piece) ? len : sizeof(piece);

		for (size_t i = 0; i < n; i++) {
			x = x * 1103515245u + 12345;
			piece[i] = (char)(x >> 16);
		}
		if (pwrite(fd, piece, n, at) != (ssize_t)n)
			return;
		at += (off_t)n;
		len -= n;
	}
}

static inline void restless_content(struct restless *c, const char *path)
{
	static const int flags[] = { O_CREAT, O_CREAT | O_TRUNC, O_CREAT | O_EXCL, 0, 0 };
	int fd = openat(c->dir, path, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC | flags[restless_pick(c, 5)], 0644);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		if (fd >= 0)
			(void)close(fd);
		return;
	}
	switch (restless_pick(c, 6)) {
	case 0:
		restless_write(fd, st.st_size, 1 + restless_pick(c, 100000), (int)restless_pick(c, 1000));
		break;
	case 1:
		restless_write(fd, restless_pick(c, 400000), 1 + restless_pick(c, 5000), (int)restless_pick(c, 1000));
		break;
	case 2:
		(void)!ftruncate(fd, restless_pick(c, 500000));
		break;
	case 3:
		(void)fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, restless_pick(c, 200000),
				1 + restless_pick(c, 200000));
		break;
	case 4:			/* as if nothing had been written */
		restless_write(fd, 0, 100, (int)restless_pick(c, 1000));
		(void)futimens(fd, (struct timespec[]){ st.st_atim, st.st_mtim });
		break;
	default:
		restless_write(fd, 0, restless_pick(c, 300000), (int)restless_pick(c, 1000));
	}
	(void)close(fd);
}

/* Through what was opened some time ago, whatever has become of its name. */
static inline void restless_held(struct restless *c, const char *path)
{
	unsigned i = restless_pick(c, RESTLESS_HELD);
	char name[8];
	void *map;

	(void)snprintf(name, sizeof(name), "h%u", i);
	if (c->tame)
		path = name;
	if (c->tame && restless_pick(c, 8) == 0)
		(void)unlinkat(c->dir, path, 0);

	if (restless_pick(c, 4) == 0) {
		if (c->open[i] >= 0)
			(void)close(c->open[i]);
		c->open[i] = openat(c->dir, path, O_RDWR | O_CREAT | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (c->maps[i])
			(void)munmap(c->maps[i], RESTLESS_MAP);
		c->maps[i] = NULL;
		if (c->open[i] < 0 || ftruncate(c->open[i], RESTLESS_MAP) < 0)
			return;
		map = mmap(NULL, RESTLESS_MAP, PROT_READ | PROT_WRITE, MAP_SHARED, c->open[i], 0);
		c->maps[i] = map == MAP_FAILED ? NULL : map;
		return;
	}
	if (c->open[i] < 0)
		return;
	/* Never behind the end: that would be SIGBUS. */
	if (c->maps[i] && ftruncate(c->open[i], RESTLESS_MAP + restless_pick(c, 3) * 4096) == 0)
		memset(c->maps[i] + restless_pick(c, RESTLESS_MAP - 64), (int)restless_pick(c, 256), 64);
	else
		restless_write(c->open[i], restless_pick(c, 100000), 1 + restless_pick(c, 3000), 7);
}

static inline int restless_remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st;
	(void)kind;
	(void)at;
	(void)remove(path);
	return 0;
}

static inline void restless_remove(struct restless *c, const char *path)
{
	char full[128];

	(void)snprintf(full, sizeof(full), "/proc/self/fd/%d/%s", c->dir, path);
	(void)nftw(full, restless_remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static inline void restless_name(struct restless *c, const char *path, const char *other)
{
	switch (restless_pick(c, 8)) {
	case 0:
		(void)renameat(c->dir, path, c->dir, other);
		break;
	case 1:
		(void)renameat2(c->dir, path, c->dir, other, RENAME_EXCHANGE);
		break;
	case 2:
	case 3:
		(void)linkat(c->dir, path, c->dir, other, 0);
		break;
	case 4:
		(void)symlinkat(other, c->dir, path);
		break;
	case 5:
		(void)mkfifoat(c->dir, path, 0600);
		break;
	case 6:
		(void)unlinkat(c->dir, path, 0);
		break;
	default:
		restless_remove(c, path);
	}
}

static inline void restless_metadata(struct restless *c, const char *path)
{
	const struct timespec times[2] = { { 1, 2 }, { restless_pick(c, 2000000000), restless_pick(c, 1000000000) } };
	char full[128];
	struct stat st;

	if (fstatat(c->dir, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	switch (restless_pick(c, 4)) {
	case 0:
		(void)!fchownat(c->dir, path, restless_pick(c, 3), restless_pick(c, 3), AT_SYMLINK_NOFOLLOW);
		break;
	case 1:
		(void)snprintf(full, sizeof(full), "/proc/self/fd/%d/%s", c->dir, path);
		if (!S_ISLNK(st.st_mode))
			(void)chmod(full, 0400 | restless_pick(c, 04000));
		break;
	case 2:
		(void)utimensat(c->dir, path, times, AT_SYMLINK_NOFOLLOW);
		break;
	default:
		restless_attribute(c->dir, path, restless_pick(c, 2) ? "user.one" : "trusted.two",
				restless_pick(c, 3) ? "some value" : NULL);
	}
}

static inline void restless_step(struct restless *c)
{
	char path[64], other[64];

	restless_path(c, path);
	restless_path(c, other);
	switch (restless_pick(c, 10)) {
	case 0:
	case 1:
	case 2:
		restless_content(c, path);
		break;
	case 3:
	case 4:
		restless_held(c, path);
		break;
	case 5:
	case 6:
		(void)mkdirat(c->dir, path, 0755);
		break;
	case 7:
		restless_metadata(c, path);
		break;
	default:
		restless_name(c, path, other);
	}
}

static inline void restless_init(struct restless *c, int dir, unsigned seed, bool tame)
{
	*c = (struct restless){ .dir = dir, .tame = tame, .random = seed * 7919ull + 1 };
	for (unsigned i = 0; i < RESTLESS_HELD; i++)
		c->open[i] = -1;
	for (int i = 0; i < 300; i++)
		restless_step(c);
}

/* In a child; it is killed to end it. The tree has something in it when this returns. */
static inline pid_t restless_start(int dir, unsigned seed, bool tame)
{
	int ready[2];
	char byte;
	pid_t pid;

	if (pipe(ready) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		struct restless c;

		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		restless_init(&c, dir, seed, tame);
		(void)!write(ready[1], "", 1);
		for (;;)
			restless_step(&c);
	}
	(void)close(ready[1]);
	(void)!read(ready[0], &byte, 1);
	(void)close(ready[0]);
	return pid;
}
