/*
 * cleanup.h - scope-owned resources
 *
 *   CLEANUP(fd_closep) int fd = -EBADF;
 *   CLEANUP(freep) char *path = NULL;
 *   ...
 *   *ret_fd = TAKE_FD(fd);		ownership leaves the scope
 *
 * Destructors accept the empty value and half-built objects.
 */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(fn) __attribute__((cleanup(fn)))

/* Take ownership out of a scope: return TAKE_FD(fd); */
#define TAKE(var, empty) ({ __typeof__(var) take_ = (var); (var) = (empty); take_; })
#define TAKE_PTR(ptr) TAKE(ptr, NULL)
#define TAKE_FD(fd) TAKE(fd, -EBADF)

#define DEFINE_CLEANUP(type, fn)			\
	static inline void fn##p(type *p)		\
	{						\
		if (*p)					\
			fn(*p);				\
	}

/* Never retries: on Linux the descriptor is gone even after EINTR. */
static inline void fd_closep(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		(void)close(*fd);
	errno = saved;
}

/* Closes now and marks the variable as empty. */
static inline void fd_close(int *fd)
{
	fd_closep(fd);
	*fd = -EBADF;
}

static inline void freep(void *p)
{
	free(*(void **)p);
}

static inline void file_closep(FILE **f)
{
	if (*f)
		(void)fclose(*f);
}

static inline void dir_closep(DIR **d)
{
	if (*d)
		(void)closedir(*d);
}
