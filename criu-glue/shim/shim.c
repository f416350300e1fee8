/*
 * shim.c - preloaded into CRIU: the few system calls that we answer for it
 *
 * CRIU is stock and dynamically linked, so a library in LD_PRELOAD sees its
 * calls of libc. (A seccomp user notification would see them too, but a
 * process under a filter may not use PTRACE_O_SUSPEND_SECCOMP, and every
 * container has a filter that CRIU must suspend.)
 *
 *  syscall  prlimit64 reads of another process that the kernel refuses for
 *           want of CAP_SYS_RESOURCE are answered from /proc/PID/limits.
 *           clone3 of a restore's root task puts it into the container's cgroup, and into
 *           its user namespace (userns.c).
 *  getsockopt  SO_PASSCRED and SO_PASSSEC of a socket that has no such thing:
 *           0, as kernels before 6.16 said. CRIU 4.1 gives up on the error.
 *  socket   CRIU lists connection tracking twice, also of a network namespace
 *           that is not its business; the kernel walks a table of the whole
 *           host for that (2 x 12 ms while the tasks are frozen). The dumping
 *           child gets a socket that takes the question and ends.
 *  prctl    at a restore whose pages come later there are no transparent huge
 *           pages until a task has its own setting back: one that came for the
 *           first page that CRIU writes would hold zeros where pages are to come.
 *           CRIU's probing would allow them again.
 *  openat   /proc/PID/smaps of a task that stands still is put together without
 *           a walk over its pages (smaps.h); and see memory.c.
 *  strdup   of the name below /tmp where CRIU puts mounts together: of a name in a folder
 *           that goes with the container, also when CRIU is killed.
 *  ptrace   at a restore every tracee gets PTRACE_O_EXITKILL: when CRIU dies
 *           before it lets the tasks go, they die too. And when the caller has
 *           hung up before that (CRIU would only log it), CRIU is made to die:
 *           a copy that nobody has frozen never runs.
 *
 * What CRIU dumps of memory, and what it restores, is memory.c's.
 *
 * Loaded by worker.c from descriptor SHIM_FD. Runs inside CRIU, so it owns
 * nothing and prints nothing.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <linux/netlink.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "criu-glue/limits.h"
#include "criu-glue/shim/shim.h"
#include "criu-glue/smaps.h"

#define LIMITS_BYTES_MAX 4096

typedef long (*syscall_fn)(long nr, ...);

/* Set once by the constructor. */
static bool tracees_die_with_us;
static bool no_conntrack;
static bool small_pages;
static pid_t main_pid;
static const char *cgroup;		/* NULL once the root task is in it */
static const char *yard;
static int smaps_program = -1;
static struct smaps_names smaps_names;

/* libc's own, which sets errno. Constructors of other libraries may call before
 * ours has run. */
static syscall_fn libc_syscall(void)
{
	static syscall_fn next;

	if (!next)
		next = (syscall_fn)dlsym(RTLD_NEXT, "syscall");
	return next;
}

/* As prlimit(2). */
static long read_limit(pid_t pid, unsigned resource, struct limits *ret)
{
	char path[32], text[LIMITS_BYTES_MAX];
	size_t len = 0;
	ssize_t n;
	int fd, r;

	(void)snprintf(path, sizeof(path), "/proc/%d/limits", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	while (len < sizeof(text) - 1 && (n = read(fd, text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	(void)close(fd);
	text[len] = '\0';
	r = limits_parse(text, resource, ret);
	if (r == 0)
		return 0;
	errno = -r;
	return -1;
}

/* The first process of a pid namespace. Where it fails, the task stays where
 * CRIU is, and our caller sees that. */
static long clone_into_cgroup(struct clone_args *args, long size)
{
	int fd = open(cgroup, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct clone_args into = { 0 };
	long r;

	memcpy(&into, args, (size_t)size);
	into.flags |= CLONE_INTO_CGROUP;
	into.cgroup = (uint64_t)fd;
	cgroup = NULL;
	r = shim_has_userns() && (into.flags & CLONE_NEWUSER) ? shim_clone_into_userns(&into) :
							       libc_syscall()(SYS_clone3, &into, sizeof(into));
	if (fd >= 0)
		(void)close(fd);
	return r;
}

static bool is_root_task(const struct clone_args *args, long size)
{
	return cgroup && (size_t)size <= sizeof(*args) && size >= CLONE_ARGS_SIZE_VER1 &&
	       (args->flags & CLONE_NEWPID);
}

EXPORT long syscall(long nr, ...)
{
	long a[6], r;
	va_list ap;

	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (nr == SYS_clone3 && is_root_task((struct clone_args *)a[0], a[1]))
		return clone_into_cgroup((struct clone_args *)a[0], a[1]);
	r = libc_syscall()(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (r < 0 && errno == EPERM && nr == SYS_userfaultfd && shim_has_userns() && getpid() != main_pid)
		r = shim_userfaultfd((int)a[0]);
	if (r < 0 && errno == EPERM && nr == SYS_prlimit64 && !a[2] && a[3])
		r = read_limit((pid_t)a[0], (unsigned)a[1], (struct limits *)a[3]);
	return r;
}

EXPORT char *strdup(const char *s)
{
	const char *from = yard && !strcmp(s, SHIM_YARD_OF_CRIU) ? yard : s;
	size_t size = strlen(from) + 1;
	char *copy = malloc(size);

	return copy ? memcpy(copy, from, size) : NULL;
}

EXPORT int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	long r = libc_syscall()(SYS_getsockopt, fd, level, name, value, len);

	if (r < 0 && errno == EOPNOTSUPP && level == SOL_SOCKET &&
	    (name == SO_PASSCRED || name == SO_PASSSEC) && *len >= sizeof(int)) {
		*(int *)value = 0;
		*len = sizeof(int);
		r = 0;
	}
	return (int)r;
}

/* Its other end stays open as long as CRIU's child lives. */
static int silent_socket(void)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	(void)shutdown(pair[1], SHUT_WR);
	return pair[0];
}

/* CRIU itself, not a library in it: libnftables probes the kernel for CRIU, and
 * the result goes to a cache that others read. */
static bool is_criu_code(const void *address)
{
	const void *entry = (const void *)getauxval(AT_ENTRY);
	Dl_info criu, caller;

	return dladdr(entry, &criu) && dladdr(address, &caller) &&
	       criu.dli_fbase == caller.dli_fbase;
}

EXPORT int socket(int domain, int type, int protocol)
{
	if (no_conntrack && domain == AF_NETLINK && protocol == NETLINK_NETFILTER &&
	    getpid() != main_pid && is_criu_code(__builtin_return_address(0)))
		return silent_socket();
	return (int)libc_syscall()(SYS_socket, domain, type, protocol);
}

EXPORT int prctl(int option, ...)
{
	unsigned long a[4];
	va_list ap;

	va_start(ap, option);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(ap, unsigned long);
	va_end(ap);
	if (small_pages && option == PR_SET_THP_DISABLE && !a[0])
		return 0;
	return (int)libc_syscall()(SYS_prctl, (long)option, a[0], a[1], a[2], a[3]);
}

/* /proc/PID by its descriptor; 0: it is something else. */
static pid_t pid_of_folder(int fd)
{
	char link[32], path[64] = "", rest;
	pid_t pid = 0;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (readlink(link, path, sizeof(path) - 1) < 0 || sscanf(path, "/proc/%d%c", &pid, &rest) != 1)
		return 0;
	return pid;
}

EXPORT int openat64(int folder, const char *path, int flags, ...)
{
	mode_t mode;
	va_list ap;
	int fd = -1;

	va_start(ap, flags);
	mode = va_arg(ap, mode_t);	/* for some flags only; else it is not looked at */
	va_end(ap);
	if (!shim_opens(path)) {
		errno = EIO;		/* not ENOENT: that would be an empty image */
		return -1;
	}
	if (smaps_program >= 0 && !strcmp(path, "smaps") && flags == O_RDONLY && pid_of_folder(folder))
		fd = smaps_make(&smaps_names, smaps_program, folder, pid_of_folder(folder));
	return fd >= 0 ? fd : (int)libc_syscall()(SYS_openat, folder, path, flags, mode);
}

static bool caller_is_gone(void)
{
	struct pollfd p = { .fd = SHIM_RPC_FD, .events = POLLRDHUP };

	return poll(&p, 1, 0) != 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL));
}

/* PTRACE_PEEK requests return the word; the kernel writes it to *data. */
EXPORT long ptrace(enum __ptrace_request request, ...)
{
	bool peek = request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA ||
		    request == PTRACE_PEEKUSER;
	long word = 0, data, addr, r;
	va_list ap;
	pid_t pid;

	va_start(ap, request);
	pid = va_arg(ap, pid_t);
	addr = va_arg(ap, long);
	data = peek ? (long)&word : va_arg(ap, long);
	va_end(ap);
	if (tracees_die_with_us && (request == PTRACE_SEIZE || request == PTRACE_SETOPTIONS))
		data |= PTRACE_O_EXITKILL;
	if (tracees_die_with_us && request == PTRACE_DETACH && caller_is_gone())
		(void)raise(SIGKILL);
	r = libc_syscall()(SYS_ptrace, (long)request, (long)pid, addr, data);
	if (peek && r == 0) {
		errno = 0;
		return word;
	}
	return r;
}

static void read_smaps_names(void)
{
	const char *number = getenv(SHIM_SMAPS);
	int fd = number ? atoi(number) : -1;

	(void)unsetenv(SHIM_SMAPS);
	if (fd >= 0 && pread(fd + 1, &smaps_names, sizeof(smaps_names), 0) == sizeof(smaps_names))
		smaps_program = fd;
}

/* CRIU's own children (tar, ip) shall not look for us. */
__attribute__((constructor)) static void shim_start(void)
{
	const char *origin = getenv("LD_PRELOAD");

	tracees_die_with_us = getenv(SHIM_EXITKILL) != NULL;
	no_conntrack = getenv(SHIM_NO_CONNTRACK) != NULL;
	small_pages = getenv(SHIM_SMALL_PAGES) != NULL;
	if (small_pages)	/* a kernel that has none refuses */
		(void)prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	main_pid = getpid();
	cgroup = getenv(SHIM_CGROUP);	/* the environment stays as it is */
	yard = getenv(SHIM_YARD);
	read_smaps_names();
	if (origin && !strcmp(origin, SHIM_PATH))
		(void)close(SHIM_FD);	/* else it is something of CRIU's caller */
	(void)unsetenv("LD_PRELOAD");
	(void)unsetenv(SHIM_EXITKILL);
	(void)unsetenv(SHIM_NO_CONNTRACK);
	(void)unsetenv(SHIM_SMALL_PAGES);
}
