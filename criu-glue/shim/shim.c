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
 *  getsockopt  SO_PASSCRED and SO_PASSSEC of a socket that has no such thing:
 *           0, as kernels before 6.16 said. CRIU 4.1 gives up on the error.
 *  ptrace   at a restore every tracee gets PTRACE_O_EXITKILL: when CRIU dies
 *           before it lets the tasks go, they die too, and never run half
 *           restored or uncommitted.
 *
 * Loaded by worker.c from descriptor SHIM_FD. Runs inside CRIU, so it owns
 * nothing, allocates nothing and prints nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "criu-glue/limits.h"
#include "criu-glue/shim/shim.h"

#define EXPORT __attribute__((visibility("default")))
#define LIMITS_BYTES_MAX 4096

/* Set once by the constructor. */
static bool tracees_die_with_us;

static long raw_syscall(long nr, const long a[6])
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = a[3];
	register long r8 __asm__("r8") = a[4];
	register long r9 __asm__("r9") = a[5];
	long r;

	__asm__ volatile("syscall" : "=a"(r)
			 : "a"(nr), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return r;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a[0];
	register long x1 __asm__("x1") = a[1];
	register long x2 __asm__("x2") = a[2];
	register long x3 __asm__("x3") = a[3];
	register long x4 __asm__("x4") = a[4];
	register long x5 __asm__("x5") = a[5];

	__asm__ volatile("svc 0" : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
#else
#error "the shim has no system call sequence for this architecture"
#endif
}

static long to_errno(long r)
{
	if (r < 0 && r > -4096) {
		errno = (int)-r;
		return -1;
	}
	return r;
}

static long read_limit(pid_t pid, unsigned resource, struct limits *ret)
{
	char path[32], text[LIMITS_BYTES_MAX];
	size_t len = 0;
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/limits", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (len < sizeof(text) - 1 && (n = read(fd, text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	(void)close(fd);
	text[len] = '\0';
	return limits_parse(text, resource, ret);
}

EXPORT long syscall(long nr, ...)
{
	long a[6], r;
	va_list ap;

	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	r = raw_syscall(nr, a);
	if (r == -EPERM && nr == SYS_prlimit64 && !a[2] && a[3])
		r = read_limit((pid_t)a[0], (unsigned)a[1], (struct limits *)a[3]);
	return to_errno(r);
}

EXPORT int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	long a[6] = { fd, level, name, (long)value, (long)len };
	long r = raw_syscall(SYS_getsockopt, a);

	if (r == -EOPNOTSUPP && level == SOL_SOCKET &&
	    (name == SO_PASSCRED || name == SO_PASSSEC) && *len >= sizeof(int)) {
		*(int *)value = 0;
		*len = sizeof(int);
		r = 0;
	}
	return (int)to_errno(r);
}

/* PTRACE_PEEK requests return the word; the kernel writes it to *data. */
EXPORT long ptrace(enum __ptrace_request request, ...)
{
	long word, a[6] = { (long)request }, r;
	bool peek = request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA ||
		    request == PTRACE_PEEKUSER;
	va_list ap;

	va_start(ap, request);
	a[1] = va_arg(ap, pid_t);
	a[2] = va_arg(ap, long);
	a[3] = peek ? (long)&word : va_arg(ap, long);
	va_end(ap);
	if (tracees_die_with_us && (request == PTRACE_SEIZE || request == PTRACE_SETOPTIONS))
		a[3] |= PTRACE_O_EXITKILL;
	r = to_errno(raw_syscall(SYS_ptrace, a));
	if (peek && r == 0) {
		errno = 0;
		return word;
	}
	return r;
}

/* CRIU's own children (tar, ip) shall not look for us. */
__attribute__((constructor)) static void shim_start(void)
{
	tracees_die_with_us = getenv(SHIM_EXITKILL) != NULL;
	(void)unsetenv("LD_PRELOAD");
	(void)unsetenv(SHIM_EXITKILL);
	(void)close(SHIM_FD);
}
