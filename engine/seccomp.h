/*
 * seccomp.h - the default system call filter
 *
 * An allow list in the spirit of what podman applies by default: calls that an
 * ordinary program needs are allowed, some only when the container has the
 * capability that guards them, the rest fail with EPERM (unknown new calls with
 * ENOSYS, so that the C library falls back). Compiled with libseccomp, and
 * kept in a cache folder (seccomp_cache.h). On x86-64 i386 programs are filtered too, x32 gets ENOSYS.
 *
 * personality(2) only takes domains that change nothing but uname(2), and
 * ENOSYS is the answer to others; socket(2) has no audit protocol without
 * CAP_AUDIT_WRITE; new user namespaces are allowed, mounting in them is not.
 *
 * seccomp(2), seccomp_export_bpf(3), runtime-spec config-linux.md "Seccomp".
 */
#pragma once

#include <linux/filter.h>
#include <stdint.h>

#include "engine/base/error.h"

/* Compiles the filter for a capability set (bit n: capability n), or takes it
 * from the cache in cache_dirfd (borrowed; -EBADF: no cache).
 * ret->filter is the caller's to free. */
int seccomp_filter(int cache_dirfd, uint64_t capabilities, struct sock_fprog *ret,
		   struct error *err);

/* Installs it on the calling process, for good. Async-signal-safe: for use in
 * a child between clone and exec. no_new_privs must be set, or the caller have
 * CAP_SYS_ADMIN. flags are seccomp(2)'s. Returns 0 (or the listener's descriptor when
 * flags ask for one) or a negative errno. */
int seccomp_install(const struct sock_fprog *filter, unsigned flags);

/* The program of a libseccomp context (scmp_filter_ctx). ret->filter is the caller's to free. */
int seccomp_export(void *context, struct sock_fprog *ret, struct error *err);
