#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "engine/base/cleanup.h"
#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "engine/capability.h"
#include "engine/seccomp.h"
#include "engine/seccomp_table.h"

#define BIT(cap) (UINT64_C(1) << (cap))
#define NO_CALL 0x7fff /* none has this number */

struct scratch {
	char path[64];
	int fd;
};

static int make_scratch(void **state)
{
	struct scratch *s = calloc(1, sizeof(*s));

	(void)snprintf(s->path, sizeof(s->path), "/tmp/godwit-test-XXXXXX");
	if (!mkdtemp(s->path))
		return -1;
	s->fd = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = s;
	return s->fd < 0 ? -1 : 0;
}

static int drop_scratch(void **state)
{
	struct scratch *s = *state;
	struct error err;
	int r = fd_remove_tree_at(AT_FDCWD, s->path, &err);

	fd_close(&s->fd);
	free(s);
	return r;
}

/* Runs one call under the filter in a child; returns its errno, 0 when it
 * succeeded, or 1000 and the signal. */
static int errno_of(const struct sock_fprog *filter, long number, long a, long b, long c)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || seccomp_install(filter, 0) < 0)
			_exit(255);
		_exit(syscall(number, a, b, c, 0, 0, 0) < 0 ? errno : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static struct sock_fprog compiled(uint64_t capabilities)
{
	struct sock_fprog filter;
	struct error err;

	if (seccomp_filter(-EBADF, capabilities, &filter, &err) < 0)
		fail_msg("%s", err.msg);
	return filter;
}

/* Arguments are such that the kernel itself would never say EPERM to root. */
static void calls_are_told_apart(void **state)
{
	static const struct {
		const char *name;
		long number, a, b;
		int expected;
	} calls[] = {
		{ "getpid", SYS_getpid, 0, 0, 0 },
		{ "read", SYS_read, -1, 0, EBADF },
		{ "openat", SYS_openat, -1, 0, EFAULT },
		{ "clone3", SYS_clone3, 0, 0, EINVAL },
		{ "rseq", SYS_rseq, 0, 0, EINVAL },
		{ "faccessat2", SYS_faccessat2, -1, 0, EFAULT },
		{ "membarrier", SYS_membarrier, 0, 0, 0 },
		{ "chroot", SYS_chroot, 0, 0, EFAULT }, /* has the capability */
		{ "mount", SYS_mount, 0, 0, EPERM },
		{ "umount2", SYS_umount2, 0, 0, EPERM },
		{ "fsopen", SYS_fsopen, 0, 0, EPERM },
		{ "pivot_root", SYS_pivot_root, 0, 0, EPERM },
		{ "setns", SYS_setns, -1, 0, EPERM },
		{ "sethostname", SYS_sethostname, 0, -1, EPERM },
		{ "bpf", SYS_bpf, 0, 0, EPERM },
		{ "perf_event_open", SYS_perf_event_open, 0, 0, EPERM },
		{ "ptrace", SYS_ptrace, -1, 0, ESRCH },
		{ "get_mempolicy", SYS_get_mempolicy, 0, 0, 0 },
		{ "kcmp", SYS_kcmp, 0, 0, EPERM },
		{ "reboot", SYS_reboot, 0, 0, EPERM },
		{ "kexec_load", SYS_kexec_load, 0, -1, EPERM },
		{ "finit_module", SYS_finit_module, -1, 0, EPERM },
		{ "swapoff", SYS_swapoff, 0, 0, EPERM },
		{ "settimeofday", SYS_settimeofday, 0, 0, EPERM },
		{ "acct", SYS_acct, 0, 0, EPERM },
		{ "open_by_handle_at", SYS_open_by_handle_at, -1, 0, EPERM },
		{ "userfaultfd", SYS_userfaultfd, -1, 0, EPERM },
		{ "add_key", SYS_add_key, 0, 0, EPERM },
		{ "io_uring_setup", SYS_io_uring_setup, 0, 0, EPERM },
		{ "unknown", NO_CALL, 0, 0, ENOSYS },
		{ "tuxcall", SYS_tuxcall, 0, 0, ENOSYS },
	};
	struct sock_fprog filter = compiled(capability_default_mask());

	(void)state;
	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		int got = errno_of(&filter, calls[i].number, calls[i].a, calls[i].b, 0);

		if (got != calls[i].expected)
			fail_msg("%s: %s", calls[i].name, strerror(got));
	}
	free(filter.filter);
}

static void a_capability_opens_its_calls(void **state)
{
	static const struct {
		uint64_t capabilities;
		long number;
	} calls[] = {
		{ BIT(CAP_SYS_ADMIN), SYS_mount },
		{ BIT(CAP_SYS_ADMIN), SYS_bpf },
		{ BIT(CAP_BPF), SYS_bpf },
		{ BIT(CAP_PERFMON), SYS_perf_event_open },
		{ BIT(CAP_SYS_PTRACE), SYS_kcmp },
		{ BIT(CAP_SYS_TIME), SYS_settimeofday },
		{ BIT(CAP_SYS_CHROOT), SYS_chroot },
		{ BIT(CAP_SYS_NICE), SYS_migrate_pages },
		{ BIT(CAP_SYS_ADMIN), SYS_setns },
		{ BIT(CAP_DAC_READ_SEARCH), SYS_open_by_handle_at },
	};
	struct sock_fprog none = compiled(0);

	(void)state;
	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		struct sock_fprog filter = compiled(calls[i].capabilities);

		assert_int_equal(errno_of(&none, calls[i].number, -1, -1, -1), EPERM);
		assert_int_not_equal(errno_of(&filter, calls[i].number, -1, -1, -1), EPERM);
		free(filter.filter);
	}
	free(none.filter);
}

static void arguments_decide_for_personality_clone_and_socket(void **state)
{
	static const long domains[] = { 0, 0x8, 0x20000, 0x20008, 0xffffffff };
	struct sock_fprog filter = compiled(capability_default_mask());
	struct sock_fprog audit = compiled(BIT(CAP_AUDIT_WRITE));

	(void)state;
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(errno_of(&filter, SYS_personality, domains[i], 0, 0), 0);
	assert_int_equal(errno_of(&filter, SYS_personality, 0x40000, 0, 0), ENOSYS);
	assert_int_equal(errno_of(&filter, SYS_unshare, CLONE_NEWUSER, 0, 0), 0);
	assert_int_equal(errno_of(&filter, SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0), 0);
	assert_int_equal(errno_of(&filter, SYS_socket, AF_INET, SOCK_STREAM, 0), 0);
	assert_int_equal(errno_of(&filter, SYS_socket, AF_UNIX, SOCK_DGRAM, 0), 0);
	assert_int_equal(errno_of(&filter, SYS_socket, AF_NETLINK, SOCK_RAW, 0), 0);
	assert_int_equal(errno_of(&filter, SYS_socket, AF_NETLINK, SOCK_RAW, 9), EINVAL);
	assert_int_not_equal(errno_of(&audit, SYS_socket, AF_NETLINK, SOCK_RAW, 9), EINVAL);
	free(filter.filter);
	free(audit.filter);
}

/* x32 has the numbers of x86-64 and a bit; i386 goes by int $0x80. */
static void other_architectures_are_filtered(void **state)
{
#ifdef __x86_64__
	struct sock_fprog filter = compiled(capability_default_mask());
	int status, result;
	pid_t pid;

	(void)state;
	assert_int_equal(errno_of(&filter, 0x40000000 + SYS_mount, 0, 0, 0), ENOSYS);
	assert_int_equal(errno_of(&filter, 0x40000000 + SYS_getpid, 0, 0, 0), ENOSYS);
	pid = fork();
	if (pid == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || seccomp_install(&filter, 0) < 0)
			_exit(255);
		__asm__ volatile("int $0x80"
				 : "=a"(result)
				 : "a"(21 /* mount */), "b"(0), "c"(0), "d"(0), "S"(0), "D"(0)
				 : "memory");
		if (result != -EPERM)
			_exit(1);
		__asm__ volatile("int $0x80" : "=a"(result) : "a"(20 /* getpid */) : "memory");
		_exit(result == (int)getpid() ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	free(filter.filter);
	/* A kernel without i386 emulation ends the child with SIGSEGV. */
	assert_true(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV));
#else
	(void)state;
	skip();
#endif
}

static void no_call_is_named_twice(void **state)
{
	const char *seen[1024];
	char *texts[64];
	size_t n = 0, groups = 0;

	(void)state;
	for (const struct seccomp_group *g = seccomp_groups; g->names; g++) {
		char *save = NULL;
		char *text = texts[groups++] = strdup(g->names);

		for (char *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
			for (size_t i = 0; i < n; i++)
				assert_string_not_equal(seen[i], w);
			assert_true(n < 1024);
			seen[n++] = w;
		}
	}
	assert_true(n > 350);
	while (groups > 0)
		free(texts[--groups]);
}

/* The one file of the cache; fails when there are others. */
static void cached_name(const struct scratch *s, char ret[NAME_MAX + 1])
{
	CLEANUP(dir_closep) DIR *d = opendir(s->path);
	size_t n = 0;

	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		(void)snprintf(ret, NAME_MAX + 1, "%s", e->d_name);
		n++;
	}
	assert_int_equal(n, 1);
}

static void assert_same(const struct sock_fprog *a, const struct sock_fprog *b)
{
	assert_int_equal(a->len, b->len);
	assert_memory_equal(a->filter, b->filter, a->len * sizeof(*a->filter));
}

static void the_cache_is_used(void **state)
{
	struct scratch *s = *state;
	struct sock_fprog fresh = compiled(BIT(CAP_KILL)), first, second;
	struct stat before, after;
	char name[NAME_MAX + 1];
	struct error err;
	uint64_t start_us = clock_us(), compiled_us, loaded_us;

	assert_int_equal(seccomp_filter(s->fd, BIT(CAP_KILL), &first, &err), 0);
	compiled_us = clock_us() - start_us;
	cached_name(s, name);
	assert_int_equal(fstatat(s->fd, name, &before, 0), 0);
	assert_int_equal(before.st_mode & 0777, 0600);
	start_us = clock_us();
	assert_int_equal(seccomp_filter(s->fd, BIT(CAP_KILL), &second, &err), 0);
	loaded_us = clock_us() - start_us;
	print_message("%u instructions compiled in %llu us, loaded in %llu us\n", first.len,
		      (unsigned long long)compiled_us, (unsigned long long)loaded_us);
	assert_int_equal(fstatat(s->fd, name, &after, 0), 0);
	assert_true(before.st_ino == after.st_ino);
	assert_same(&fresh, &first);
	assert_same(&fresh, &second);
	free(second.filter);
	assert_int_equal(seccomp_filter(s->fd, BIT(CAP_CHOWN), &second, &err), 0);
	free(second.filter);
	free(first.filter);
	free(fresh.filter);
}

/* One changed byte anywhere, a cut, an addition, another's file. */
static void a_tampered_cache_is_ignored_and_rewritten(void **state)
{
	struct scratch *s = *state;
	CLEANUP(freep) char *good = NULL;
	struct sock_fprog fresh, filter;
	char name[NAME_MAX + 1];
	struct error err;
	size_t len;

	assert_int_equal(seccomp_filter(s->fd, 0, &fresh, &err), 0);
	cached_name(s, name);
	assert_int_equal(fd_read_file_at(s->fd, name, 1 << 20, &good, &len, &err), 0);
	for (int way = 0; way < 8; way++) {
		static const long at[] = { 0, 9, 16, 25, -1, 0, 0, 0 };
		CLEANUP(freep) char *bad = calloc(1, len + 8);
		CLEANUP(freep) char *again = NULL;
		size_t bad_len = way == 5 ? len - 8 : way == 6 ? len + 8 : way == 7 ? 0 : len;
		size_t again_len;

		memcpy(bad, good, len);
		if (way < 5)
			bad[at[way] < 0 ? (long)len + at[way] : at[way]] ^= 1;
		assert_int_equal(fd_replace_file_at(s->fd, name, bad, bad_len, 0600, FD_REPLACE,
						    &err), 0);
		assert_int_equal(seccomp_filter(s->fd, 0, &filter, &err), 0);
		assert_same(&fresh, &filter);
		free(filter.filter);
		assert_int_equal(fd_read_file_at(s->fd, name, 1 << 20, &again, &again_len, &err),
				 0);
		assert_int_equal(again_len, len);
		assert_memory_equal(again, good, len);
	}
	free(fresh.filter);
}

/* A valid file under another filter's name, or one that others could write. */
static void a_file_that_is_not_ours_is_ignored(void **state)
{
	struct scratch *s = *state;
	struct sock_fprog weak, strict, filter;
	char name[NAME_MAX + 1], weak_name[NAME_MAX + 1];
	struct error err;
	struct stat st;

	assert_int_equal(seccomp_filter(s->fd, BIT(CAP_SYS_ADMIN), &weak, &err), 0);
	cached_name(s, weak_name);
	assert_int_equal(renameat(s->fd, weak_name, s->fd, "kept"), 0);
	assert_int_equal(unlinkat(s->fd, "kept", 0), 0);
	assert_int_equal(seccomp_filter(s->fd, 0, &strict, &err), 0);
	cached_name(s, name);
	assert_int_equal(seccomp_filter(s->fd, BIT(CAP_SYS_ADMIN), &filter, &err), 0);
	free(filter.filter);
	assert_int_equal(renameat(s->fd, weak_name, s->fd, name), 0);
	assert_int_equal(seccomp_filter(s->fd, 0, &filter, &err), 0);
	assert_same(&strict, &filter);
	free(filter.filter);

	assert_int_equal(fchmodat(s->fd, name, 0666, 0), 0);
	assert_int_equal(seccomp_filter(s->fd, 0, &filter, &err), 0);
	assert_int_equal(fstatat(s->fd, name, &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	free(filter.filter);
	free(weak.filter);
	free(strict.filter);
}

static void installing_needs_no_new_privs(void **state)
{
	struct sock_fprog filter = compiled(0), empty = { 0 };
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		if (seccomp_install(&empty, 0) != -EINVAL)
			_exit(1);
		if (setresuid(1000, 1000, 1000) < 0)
			_exit(2);
		_exit(seccomp_install(&filter, 0) == -EACCES ? 0 : 3);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	free(filter.filter);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_are_told_apart),
		cmocka_unit_test(a_capability_opens_its_calls),
		cmocka_unit_test(arguments_decide_for_personality_clone_and_socket),
		cmocka_unit_test(other_architectures_are_filtered),
		cmocka_unit_test(no_call_is_named_twice),
		cmocka_unit_test_setup_teardown(the_cache_is_used, make_scratch, drop_scratch),
		cmocka_unit_test_setup_teardown(a_tampered_cache_is_ignored_and_rewritten,
						make_scratch, drop_scratch),
		cmocka_unit_test_setup_teardown(a_file_that_is_not_ours_is_ignored, make_scratch,
						drop_scratch),
		cmocka_unit_test(installing_needs_no_new_privs),
	};

	if (geteuid() != 0)
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
