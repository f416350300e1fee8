#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <elf.h>

#include "engine/base/cleanup.h"
#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "migrate/memory/inject.h"
#include "migrate/memory/vmas.h"

#ifdef __x86_64__

#define EVENT_STOP 128
#define SUSPEND_SECCOMP (1 << 21)
#define GET_DISPATCH 0x4210		/* PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, Linux 6.4 */
#define SYSCALL_STOP (SIGTRAP | 0x80)
#define USER_CS 0x33
#define SEARCH_BYTES (4u << 20)		/* of each mapping */
#define LOOK_AGAIN_NS 20000
#define STOPS_MAX 64

static int failed(struct error *err, const char *what)
{
	return error_set(err, errno, "%s: %s", what, strerror(errno));
}

static int trace(struct inject *in, int request, void *address, void *data, const char *what,
		 struct error *err)
{
	/* glibc's prototype has an enum, which lacks the newer requests */
	if (ptrace((enum __ptrace_request)request, in->tid, address, data) < 0)
		return failed(err, what);
	return 0;
}

/* Nothing but wait4 tells of a tracee's stop, and that has no time limit. */
static int wait_stop(struct inject *in, int *ret_status, struct error *err)
{
	const struct timespec pause = { .tv_nsec = LOOK_AGAIN_NS };

	for (;;) {
		int status;
		pid_t r = waitpid(in->tid, &status, __WALL | WNOHANG);

		if (r < 0)
			return failed(err, "wait for the thread to stop");
		if (r > 0 && !WIFSTOPPED(status))
			return error_set(err, ESRCH, "the thread has ended");
		if (r > 0) {
			*ret_status = status;
			return 0;
		}
		if (clock_us() >= in->deadline_us)
			return error_set(err, ETIMEDOUT, "the thread does not stop");
		(void)nanosleep(&pause, NULL);
	}
}

/* Lets it run until it stops as wanted; signals on the way are delivered. */
static int run_until(struct inject *in, int request, bool (*wanted)(int status), struct error *err)
{
	int status = 0;

	for (int i = 0; i < STOPS_MAX; i++) {
		if (wait_stop(in, &status, err) < 0)
			return -err->code;
		if (wanted(status))
			return 0;

		uintptr_t sig = status >> 16 || WSTOPSIG(status) == SYSCALL_STOP
					? 0 : (uintptr_t)WSTOPSIG(status);

		if (trace(in, request, NULL, (void *)sig, "resume", err) < 0)
			return -err->code;
	}
	return error_set(err, EBUSY, "the thread stops for too much else");
}

static bool is_event_stop(int status)
{
	return status >> 16 == EVENT_STOP;
}

static bool is_syscall_stop(int status)
{
	return WSTOPSIG(status) == SYSCALL_STOP;
}

static int set_regs(struct inject *in, struct user_regs_struct *regs, struct error *err)
{
	struct iovec iov = { regs, sizeof(*regs) };

	return trace(in, PTRACE_SETREGSET, (void *)NT_PRSTATUS, &iov, "set registers", err);
}

static int get_regs(struct inject *in, struct user_regs_struct *regs, struct error *err)
{
	struct iovec iov = { regs, sizeof(*regs) };

	if (trace(in, PTRACE_GETREGSET, (void *)NT_PRSTATUS, &iov, "get registers", err) < 0)
		return -err->code;
	if (iov.iov_len != sizeof(*regs) || regs->cs != USER_CS)
		return error_set(err, EOPNOTSUPP, "a 32-bit program");
	return 0;
}

static bool has_filter(const struct inject *in)
{
	char path[64], text[4096];
	CLEANUP(fd_closep) int fd = -EBADF;
	const char *at;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", in->tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return true;
	text[n] = '\0';
	at = strstr(text, "\nSeccomp:\t");
	return !at || at[strlen("\nSeccomp:\t")] != '0';
}

/* A filter might kill the process for a call that it never made. */
static int suspend_filters(struct inject *in, struct error *err)
{
	uintptr_t options = PTRACE_O_TRACESYSGOOD;
	uint64_t dispatch[4] = { 0 };

	if (ptrace((enum __ptrace_request)GET_DISPATCH, in->tid, sizeof(dispatch), dispatch) == 0 &&
	    dispatch[0])
		return error_set(err, EOPNOTSUPP, "its system calls are dispatched to itself");
	if (ptrace(PTRACE_SETOPTIONS, in->tid, NULL, (void *)(options | SUSPEND_SECCOMP)) == 0)
		return 0;
	if (has_filter(in))
		return error_set(err, EOPNOTSUPP,
				 "its seccomp filter can't be suspended here: %s", strerror(errno));
	return trace(in, PTRACE_SETOPTIONS, NULL, (void *)options, "set options", err);
}

/* Looks for 0f 05 in [start, end), in pieces that overlap by one byte. */
static uint64_t search(const struct inject *in, uint64_t start, uint64_t end)
{
	unsigned char text[4096];

	if (end - start > SEARCH_BYTES)
		end = start + SEARCH_BYTES;
	for (uint64_t at = start; at + 1 < end; at += sizeof(text) - 1) {
		struct iovec to = { text, end - at < sizeof(text) ? end - at : sizeof(text) };
		struct iovec from = { (void *)(uintptr_t)at, to.iov_len };
		ssize_t n = process_vm_readv(in->tid, &to, 1, &from, 1, 0);
		const unsigned char *hit = n > 1 ? memmem(text, (size_t)n, "\x0f\x05", 2) : NULL;

		if (hit)
			return at + (uint64_t)(hit - text);
		if (n < (ssize_t)to.iov_len)
			return 0;
	}
	return 0;
}

/* The vDSO is the last that is mapped as a rule, and the best: it is small,
 * always there and nobody else's. */
static int find_instruction(struct inject *in, struct error *err)
{
	char path[64];
	CLEANUP(fd_closep) int fd = -EBADF;
	struct maps_reader reader = { 0 };
	struct maps_line line;
	uint64_t other = 0;
	int r;

	(void)snprintf(path, sizeof(path), "/proc/%d/maps", in->tid);
	reader.fd = fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return failed(err, "open maps");
	while (!in->instruction && (r = maps_next(&reader, &line, err)) > 0) {
		if (line.perms[0] != 'r' || line.perms[2] != 'x' || !strcmp(line.name, "[vsyscall]"))
			continue;
		if (!strcmp(line.name, "[vdso]"))
			in->instruction = search(in, line.start, line.end);
		else if (!other)
			other = search(in, line.start, line.end);
	}
	if (!in->instruction)
		in->instruction = other;
	if (!in->instruction)
		return error_set(err, EOPNOTSUPP, "it has no system call instruction");
	return 0;
}

static int prepare(struct inject *in, struct error *err)
{
	uint64_t all = ~UINT64_C(0);

	if (get_regs(in, &in->regs, err) < 0 || suspend_filters(in, err) < 0 ||
	    find_instruction(in, err) < 0 ||
	    trace(in, PTRACE_GETSIGMASK, (void *)sizeof(all), &in->signals, "get signals", err) < 0)
		return -err->code;
	return trace(in, PTRACE_SETSIGMASK, (void *)sizeof(all), &all, "block signals", err);
}

int inject_begin(pid_t tid, uint64_t timeout_us, struct inject *ret, struct error *err)
{
	struct inject in = { .tid = tid, .deadline_us = clock_us() + timeout_us };
	struct error ignored;

	if (trace(&in, PTRACE_SEIZE, NULL, NULL, "trace", err) < 0 ||
	    trace(&in, PTRACE_INTERRUPT, NULL, NULL, "stop", err) < 0 ||
	    run_until(&in, PTRACE_CONT, is_event_stop, err) < 0)
		return -err->code;
	in.deadline_us = UINT64_MAX;
	if (prepare(&in, err) < 0) {
		(void)trace(&in, PTRACE_DETACH, NULL, NULL, "let go", &ignored);
		return -err->code;
	}
	*ret = in;
	return 0;
}

int inject_call(struct inject *in, long number, long a, long b, long c, long *ret,
		struct error *err)
{
	struct user_regs_struct regs = in->regs;

	regs.rip = in->instruction;
	regs.rax = (unsigned long)number;
	regs.rdi = (unsigned long)a;
	regs.rsi = (unsigned long)b;
	regs.rdx = (unsigned long)c;
	regs.orig_rax = ~0UL;	/* no call is to be restarted with these registers */
	if (set_regs(in, &regs, err) < 0)
		return -err->code;
	for (int stop = 0; stop < 2; stop++)	/* at its entry and at its end */
		if (trace(in, PTRACE_SYSCALL, NULL, NULL, "resume", err) < 0 ||
		    run_until(in, PTRACE_SYSCALL, is_syscall_stop, err) < 0)
			return -err->code;
	if (get_regs(in, &regs, err) < 0)
		return -err->code;
	*ret = (long)regs.rax;
	return 0;
}

/* The kernel restarts an interrupted call only on the way out of a stop that
 * is like a signal's, which the end of a system call is not: so it is stopped
 * once more, with its own registers, before it is let go. */
int inject_end(struct inject *in, struct error *err)
{
	struct error ignored;
	int r = 0;

	if (set_regs(in, &in->regs, err) < 0 ||
	    trace(in, PTRACE_INTERRUPT, NULL, NULL, "stop", err) < 0 ||
	    trace(in, PTRACE_CONT, NULL, NULL, "resume", err) < 0 ||
	    run_until(in, PTRACE_CONT, is_event_stop, err) < 0 ||
	    trace(in, PTRACE_SETSIGMASK, (void *)sizeof(in->signals), &in->signals, "give its signals",
		  err) < 0)
		r = -err->code;
	(void)trace(in, PTRACE_DETACH, NULL, NULL, "let go", &ignored);
	return r;
}

#else

int inject_begin(pid_t tid, uint64_t timeout_us, struct inject *ret, struct error *err)
{
	(void)tid, (void)timeout_us, (void)ret;
	return error_set(err, EOPNOTSUPP, "not on this kind of processor yet");
}

int inject_call(struct inject *in, long number, long a, long b, long c, long *ret,
		struct error *err)
{
	(void)in, (void)number, (void)a, (void)b, (void)c, (void)ret;
	return error_set(err, EOPNOTSUPP, "not on this kind of processor yet");
}

int inject_end(struct inject *in, struct error *err)
{
	(void)in;
	return error_set(err, EOPNOTSUPP, "not on this kind of processor yet");
}

#endif
