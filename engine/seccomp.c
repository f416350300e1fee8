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
#include "engine/seccomp_table.h"

#define FORMAT 1 /* raise it when the code below changes what is compiled */
#define NAME_SIZE 96
#define CALL_SIZE 64
#define FILE_MAX (sizeof(struct file_head) + BPF_MAXINSNS * sizeof(struct sock_filter))
#define NETLINK_FAMILY 16
#define NETLINK_AUDIT_PROTOCOL 9

DEFINE_CLEANUP(scmp_filter_ctx, seccomp_release)

/* A cached file: this, then the instructions. */
struct file_head {
	char magic[8];
	uint64_t checksum; /* FNV-1a of the file's name and the instructions */
};

static const char magic[8] = "gdwtbpf";

static uint64_t fnv1a(uint64_t hash, const void *data, size_t len)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
	return hash;
}

#define FNV_START UINT64_C(0xcbf29ce484222325)

static void cache_name(uint64_t capabilities, char ret[NAME_SIZE])
{
	const struct scmp_version *v = seccomp_version();
	uint64_t table = FNV_START;

	for (const struct seccomp_group *g = seccomp_groups; g->names; g++) {
		table = fnv1a(table, &g->capabilities, sizeof(g->capabilities));
		table = fnv1a(table, g->names, strlen(g->names) + 1);
	}
	(void)snprintf(ret, NAME_SIZE, "seccomp-%d-%016llx-%016llx-%u.%u.%u.bpf", FORMAT,
		       (unsigned long long)table, (unsigned long long)capabilities, v->major,
		       v->minor, v->micro);
}

static uint64_t checksum(const char *name, const struct sock_fprog *filter)
{
	return fnv1a(fnv1a(FNV_START, name, strlen(name)), filter->filter,
		     filter->len * sizeof(*filter->filter));
}

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

/* True when nobody but us (or root) could have written the file. */
static bool is_ours(int dirfd, const char *name)
{
	struct stat st;

	return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	       (st.st_uid == geteuid() || st.st_uid == 0) && !(st.st_mode & (S_IWGRP | S_IWOTH));
}

static bool cache_load(int dirfd, const char *name, struct sock_fprog *ret)
{
	CLEANUP(freep) char *data = NULL;
	struct file_head head;
	struct sock_fprog filter = { 0 };
	struct error ignored;
	size_t len;

	if (!is_ours(dirfd, name) ||
	    fd_read_file_at(dirfd, name, FILE_MAX, &data, &len, &ignored) < 0 || len < sizeof(head))
		return false;
	memcpy(&head, data, sizeof(head));
	if (memcmp(head.magic, magic, sizeof(magic)) != 0 ||
	    make_filter(data + sizeof(head), len - sizeof(head), &filter, &ignored) < 0)
		return false;
	if (head.checksum != checksum(name, &filter)) {
		free(filter.filter);
		return false;
	}
	*ret = filter;
	return true;
}

/* Best effort: without a cache the next start only takes longer. */
static void cache_store(int dirfd, const char *name, const struct sock_fprog *filter)
{
	size_t len = filter->len * sizeof(*filter->filter);
	struct file_head head = { .checksum = checksum(name, filter) };
	char data[FILE_MAX];
	struct error ignored;

	memcpy(head.magic, magic, sizeof(magic));
	memcpy(data, &head, sizeof(head));
	memcpy(data + sizeof(head), filter->filter, len);
	(void)fd_replace_file_at(dirfd, name, data, sizeof(head) + len, 0600, FD_REPLACE,
				 &ignored);
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

int seccomp_filter(int cache_dirfd, uint64_t capabilities, struct sock_fprog *ret,
		   struct error *err)
{
	char name[NAME_SIZE];

	cache_name(capabilities, name);
	if (cache_dirfd >= 0 && cache_load(cache_dirfd, name, ret))
		return 0;
	if (compile(capabilities, ret, err) < 0)
		return -err->code;
	if (cache_dirfd >= 0)
		cache_store(cache_dirfd, name, ret);
	return 0;
}

int seccomp_install(const struct sock_fprog *filter, unsigned flags)
{
	int r = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, filter);

	return r < 0 ? -errno : r;
}
