/*
 * library.h - shared libraries that are loaded when they are needed
 *
 * A program starts with every container, and the time that it takes grows with
 * what it is linked with. What few commands need is therefore found by dlopen(3).
 *
 *	struct library_function functions[] = {
 *		{ "archive_read_new", offsetof(struct libarchive, archive_read_new) },
 *	};
 */
#pragma once

#include <stddef.h>

#include "engine/base/error.h"

struct library_function {
	const char *name;
	size_t offset;		/* of the pointer to it, in the caller's structure */
};

/* Puts the addresses of n functions of a shared object into `ret`. The library
 * stays loaded. ELIBACC: it can't be loaded, `package` is the Debian package to
 * install; ELIBBAD: it has no such function; `ret` may be written in part. */
int library_load(const char *soname, const char *package, const struct library_function *functions,
		 size_t n, void *ret, struct error *err);
