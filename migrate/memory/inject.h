/*
 * inject.h - run a system call inside another process
 *
 * By ptrace(2): one thread is stopped where it is, its registers are put aside,
 * it runs system calls at a system call instruction that it has anyway (in its
 * vDSO, or else in its program), and goes on as if nothing had been. No byte
 * of its memory changes. Its seccomp filter is suspended meanwhile and all of
 * its signals are blocked. A blocking system call that was interrupted is
 * restarted by the kernel, except those that signal(7) names (epoll_wait(2)
 * and others give EINTR, as freezing makes them do too).
 *
 * The caller must be a process of its own that ends soon, with nothing else to
 * trace: a thread that does not stop in time (in vfork(2), on a dead disk)
 * cannot be let go in any other way than by the tracer's exit. It must not be
 * killed in between, or the thread goes on with the wrong registers.
 *
 *   r = inject_begin(pid, 50000, &in, err);
 *   r = inject_call(&in, SYS_close, fd, 0, 0, &result, err);
 *   r = inject_end(&in, err);
 *
 * x86-64 only; -EOPNOTSUPP elsewhere, and for 32-bit programs. Doesn't allocate.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "engine/base/error.h"

struct inject {
	pid_t tid;
	uint64_t deadline_us;		/* for its first stop alone */
	uint64_t instruction;		/* where a system call instruction is */
	uint64_t signals;		/* the thread's own mask */
	struct user_regs_struct regs;	/* the thread's own */
};

/* tid has stopped. -ESRCH when it is gone, -ETIMEDOUT when it doesn't stop,
 * -EPERM when somebody else traces it, -EOPNOTSUPP when nothing can be run
 * in it. timeout_us is for this alone: a thread that runs our call is waited
 * for however long it gets no processor, as giving up would leave it broken. */
int inject_begin(pid_t tid, uint64_t timeout_us, struct inject *ret, struct error *err);

/* *ret is what the kernel answered: a result or a negative errno. */
int inject_call(struct inject *in, long number, long a, long b, long c, long *ret,
		struct error *err);

/* Puts everything back and lets the thread go; needed after every inject_begin
 * that succeeded, also when a call failed. */
int inject_end(struct inject *in, struct error *err);
