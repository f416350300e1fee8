/*
 * oci_process.h - a process object of the runtime specification as what process.h starts
 *
 *	struct oci_process_plan plan;
 *	r = oci_process_plan(arena, spec_process, linux, cache, &plan, err);	in the parent, before the fork
 *	r = oci_process_attributes(&plan, pid, err);			in the parent, of the waiting child
 *	plan.process.label_fd = open("/proc/self/attr/exec", O_WRONLY);	in the child
 *	r = process_become(&plan.process, err);
 *
 * Attributes that are given from outside need rights on the host that the
 * child may not have any more: rlimits, oom score, scheduler, I/O priority.
 */
#pragma once

#include "engine/oci/oci_spec.h"
#include "engine/process.h"

struct oci_process_plan {
	struct process process;		/* borrows from arena and spec */
	const struct oci_process *spec;
	struct sock_fprog filter;	/* the caller frees filter.filter */
	char label[256];
};

/* linux (may be NULL) has the seccomp filter and the personality. A name that is unknown, or
 * that this host can't give, is refused. cache_dirfd (borrowed, may be negative) is for the filter. */
int oci_process_plan(struct oci_arena *a, const struct oci_process *p, const struct oci_linux *linux_,
		     int cache_dirfd, struct oci_process_plan *ret, struct error *err);

int oci_process_attributes(const struct oci_process_plan *plan, pid_t pid, struct error *err);

/* Whether this host has AppArmor, SELinux. */
bool oci_process_has_apparmor(void);
bool oci_process_has_selinux(void);

/* oci_seccomp.c: compiles linux.seccomp, or takes it from the cache (seccomp_cache.h); *ret_flags are
 * seccomp(2)'s, with NEW_LISTENER when some action notifies. A system call that libseccomp does not
 * know is left out (as runc does): the document lists calls of all architectures and ages. */
int oci_seccomp_compile(const struct oci_seccomp *s, int cache_dirfd, struct sock_fprog *ret, unsigned *ret_flags,
			struct error *err);
/* Their names, NULL-terminated: for the features document. */
const char *const *oci_seccomp_actions(void);
const char *const *oci_seccomp_operators(void);
const char *const *oci_seccomp_architectures(void);
const char *const *oci_seccomp_flags(void);
