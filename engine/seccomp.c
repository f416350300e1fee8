#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <seccomp.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/seccomp.h"
#include "engine/seccomp_cache.h"
#include "engine/seccomp_table.h"

#define FORMAT 1 /* raise it when the code below changes what is compiled */
#define CALL_SIZE 64
#define NETLINK_FAMILY 16
#define NETLINK_AUDIT_PROTOCOL 9

DEFINE_CLEANUP(scmp_filter_ctx, seccomp_release)

/* The instructions of len bytes as a filter that owns a copy of them. */
static int make_filter(const void *code, size_t len, struct sock_fprog *ret, struct error *err)
{
	struct sock_filter *copy;

	if (len == 0 || len % sizeof(*copy) || len / sizeof(*copy) > BPF_MAXINSNS)
		return error_set(err, EBADMSG, "%zu bytes are no filter", len);
	copy = malloc(len);
	if (!copy)
		return error_set(err, ENOMEM, "out of memory");
	memcpy(copy, code, len);
	*ret = (struct sock_fprog){ .len = (unsigned short)(len / sizeof(*copy)), .filter = copy };
	return 0;
}

static int add_group(scmp_filter_ctx ctx, const struct seccomp_group *g, uint64_t capabilities,
		     struct error *err)
{
	bool allowed = g->capabilities == SECCOMP_ALWAYS || (g->capabilities & capabilities);
	uint32_t action = allowed ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(EPERM);
	char name[CALL_SIZE];
	size_t len;

	for (const char *n = g->names; *n; n += len + (n[len] == ' ')) {
		int number, r;

		len = strcspn(n, " ");
		(void)snprintf(name, sizeof(name), "%.*s", (int)len, n);
		number = seccomp_syscall_resolve_name(name);
		r = number == __NR_SCMP_ERROR ? 0 : seccomp_rule_add(ctx, action, number, 0);
		if (r < 0)
			return error_set(err, -r, "rule for %s: %s", name, strerror(-r));
	}
	return 0;
}

/* Execution domains that change nothing but how uname(2) answers, and asking. */
static int add_personality(scmp_filter_ctx ctx)
{
	static const uint32_t harmless[] = { 0, 0x8, 0x20000, 0x20008, 0xffffffff };
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(harmless) / sizeof(*harmless); i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(personality), 1,
				     SCMP_A0(SCMP_CMP_EQ, harmless[i], 0));
	return r;
}

/* Everything but the audit protocol, which is not namespaced. EINVAL there
 * tells programs that the kernel has no audit, which they take well. */
static int add_socket(scmp_filter_ctx ctx, bool any_protocol)
{
	int call = SCMP_SYS(socket);
	int r;

	if (any_protocol)
		return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, call, 0);
	r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EINVAL), call, 2,
			     SCMP_A0(SCMP_CMP_EQ, NETLINK_FAMILY, 0),
			     SCMP_A2(SCMP_CMP_EQ, NETLINK_AUDIT_PROTOCOL, 0));
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, call, 1,
				     SCMP_A0(SCMP_CMP_NE, NETLINK_FAMILY, 0));
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, call, 1,
				     SCMP_A2(SCMP_CMP_NE, NETLINK_AUDIT_PROTOCOL, 0));
	return r;
}

static int add_rules(scmp_filter_ctx ctx, uint64_t capabilities, bool any_protocol,
		     struct error *err)
{
	int r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree */

	if (r == 0)
		r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
	if (r == 0)
		r = add_personality(ctx);
	if (r == 0)
		r = add_socket(ctx, any_protocol);
	if (r < 0)
		return error_set(err, -r, "%s", strerror(-r));
	for (const struct seccomp_group *g = seccomp_groups; g->names; g++)
		if (add_group(ctx, g, capabilities, err) < 0)
			return -err->code;
	return 0;
}

/*
 * A 64-bit x86 kernel also runs i386 programs, and x32 ones if it was built for
 * them; x32 gets ENOSYS like on most kernels, which keeps the filter a third
 * smaller and each start 0.1 ms quicker. i386 has a filter of its own that is
 * merged in: its sockets are also made by socketcall(2), whose arguments a
 * filter can't see, so there the kernel alone guards the audit protocol (by
 * CAP_AUDIT_WRITE).
 */
static int add_i386(scmp_filter_ctx ctx, uint64_t capabilities, struct error *err)
{
	CLEANUP(seccomp_releasep) scmp_filter_ctx i386 = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	int r;

	if (!i386)
		return error_set(err, ENOMEM, "out of memory");
	r = seccomp_arch_add(i386, SCMP_ARCH_X86);
	if (r == 0)
		r = seccomp_arch_remove(i386, SCMP_ARCH_NATIVE);
	if (r < 0)
		return error_set(err, -r, "i386: %s", strerror(-r));
	if (add_rules(i386, capabilities, true, err) < 0)
		return error_wrap(err, "i386");
	r = seccomp_merge(ctx, i386);
	if (r < 0)
		return error_set(err, -r, "i386: merge: %s", strerror(-r));
	(void)TAKE_PTR(i386); /* seccomp_merge released it */
	return 0;
}

int seccomp_export(void *ctx, struct sock_fprog *ret, struct error *err)
{
	CLEANUP(fd_closep) int fd = memfd_create("seccomp", MFD_CLOEXEC);
	char code[BPF_MAXINSNS * sizeof(struct sock_filter) + 1];	/* a byte to see too many */
	ssize_t len;
	int r;

	if (fd < 0)
		return error_set(err, errno, "memfd_create: %s", strerror(errno));
	r = seccomp_export_bpf(ctx, fd);
	if (r < 0)
		return error_set(err, -r, "export: %s", strerror(-r));
	len = pread(fd, code, sizeof(code), 0);
	if (len < 0)
		return error_set(err, errno, "read: %s", strerror(errno));
	return make_filter(code, (size_t)len, ret, err);
}

static int fill(scmp_filter_ctx ctx, uint64_t capabilities, struct error *err)
{
	bool audit = capabilities & (UINT64_C(1) << CAP_AUDIT_WRITE);

	if (add_rules(ctx, capabilities, audit, err) < 0)
		return -err->code;
	return seccomp_arch_native() == SCMP_ARCH_X86_64 ? add_i386(ctx, capabilities, err) : 0;
}

static int compile(uint64_t capabilities, struct sock_fprog *ret, struct error *err)
{
	CLEANUP(seccomp_releasep) scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));

	if (!ctx)
		return error_set(err, ENOMEM, "out of memory");
	if (fill(ctx, capabilities, err) < 0 || seccomp_export(ctx, ret, err) < 0)
		return error_wrap(err, "compile the system call filter");
	return 0;
}

static void make_key(uint64_t capabilities, struct seccomp_key *ret)
{
	static const int format = FORMAT;

	seccomp_key_begin(ret);
	seccomp_key_add(ret, &format, sizeof(format));
	seccomp_key_add(ret, &capabilities, sizeof(capabilities));
	for (const struct seccomp_group *g = seccomp_groups; g->names; g++) {
		seccomp_key_add(ret, &g->capabilities, sizeof(g->capabilities));
		seccomp_key_add_string(ret, g->names);
	}
}

int seccomp_filter(int cache_dirfd, uint64_t capabilities, struct sock_fprog *ret,
		   struct error *err)
{
	struct seccomp_key key;

	make_key(capabilities, &key);
	if (seccomp_cache_load(cache_dirfd, &key, ret))
		return 0;
	if (compile(capabilities, ret, err) < 0)
		return -err->code;
	seccomp_cache_store(cache_dirfd, &key, ret);
	return 0;
}

int seccomp_install(const struct sock_fprog *filter, unsigned flags)
{
	int r = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, filter);

	return r < 0 ? -errno : r;
}
