/*
 * seccomp.h - the default system call filter
 *
 * An allow list in the spirit of what podman applies by default: calls that an
 * ordinary program needs are allowed, some only when the container has the
 * capability that guards them, the rest fail with EPERM (unknown new calls with
 * ENOSYS, so that the C library falls back). Compiled with libseccomp; the
 * result is kept in a cache folder, because compiling costs more than starting.
 *
 * seccomp(2), seccomp_export_bpf(3), runtime-spec config-linux.md "Seccomp".
 */
#pragma once

#include <linux/filter.h>
#include <stdint.h>

#include "engine/base/error.h"

/* Compiles the filter for a capability set (bit n: capability n), or takes it
 * from the cache below cache_dirfd (borrowed; -EBADF: no cache). A cached file
 * is used only when its name carries the same version, capabilities and
 * libseccomp version and its content has the right checksum.
 * ret->filter is the caller's to free. */
int seccomp_filter(int cache_dirfd, uint64_t capabilities, struct sock_fprog *ret,
		   struct error *err);

/* Installs it on the calling process, for good. Async-signal-safe: for use in
 * a child between clone and exec. no_new_privs must be set, or the caller have
 * CAP_SYS_ADMIN. Returns 0 or a negative errno. */
int seccomp_install(const struct sock_fprog *filter);
