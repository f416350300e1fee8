/*
 * monitor.h - the small process beside each container
 *
 * It is the parent and reaper of the container's init, holds its network
 * namespace and a private mount namespace, reads its stdio pipes (or its
 * terminal), writes the log, keeps the exit status in state.json, and holds
 * the freeze lease: who froze the container through it and then goes away
 * without a decision on disk (handover.json) gets it thawed.
 *
 * It also keeps the restart policy: between two lives of the container it listens, and
 * understands only STOP; with each life the connections of the one before end. It
 * takes the container's lock to start it, so never in the middle of an operation.
 *
 * It is forked, not executed, by whoever starts or restores a container, or finds
 * that its monitor was killed, and then depends on nobody. It is single-threaded and never blocks for long.
 *
 * Protocol on containers/NAME/monitor.sock (SOCK_SEQPACKET, root only): one
 * struct monitor_message a packet, a reply to each request with the same op.
 *
 *   ATTACH    from now on the client gets OUTPUT messages; may send STDIN
 *   WAIT      reply when the container has exited: code = exit code, data = the
 *             reason, when there is more to say
 *   FREEZE    lease begins: gate closed, cgroup frozen, pipes drained
 *             reply: value[0] = real time in us, [1..3] = inodes of the stdio
 *             pipes, 0 where there is none
 *   FREEZE_HELD   the same, but the gate is left alone: the client has armed one
 *             (gate.h) and holds it itself
 *   TRACER    with a pidfd: the lease ends only after this process has, too
 *   THAW      lease ends: thawed, gate open
 *   DISCARD   lease ends: the container has moved; killed, its folder removed
 *   SETTLED   reply when nothing completes the container's memory any more
 *             (struct monitor_guard); FREEZE before is refused with -EAGAIN.
 *             Whoever moves the container asks first; when it goes away, a gate
 *             that it has armed is taken off
 *   CANCEL    who asked SETTLED gets SIGTERM; the reply comes when that one has let
 *             go and the container runs. -ESRCH: nobody has asked; -EALREADY: too
 *             late, a decision is on disk. It may move all the same: DISCARD
 *   STOP      a person ends the container: its restart policy is not to start it again
 *   RESIZE    value[0] = rows, value[1] = columns of the terminal
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"
#include "engine/cgroup/cgroup.h"
#include "engine/container.h"
#include "engine/network/network.h"

#define MONITOR_DATA_MAX 32768

enum monitor_op {
	MONITOR_STARTED = 1,		/* value[0] = 0 and [1] = pid of the init, or the start
					   failed: value[0] = errno, data is the error */
	MONITOR_ATTACH,
	MONITOR_OUTPUT,			/* value[0]: enum output_stream; data */
	MONITOR_STDIN,			/* data; none of it: end of file. No reply. */
	MONITOR_WAIT,
	MONITOR_FREEZE,
	MONITOR_FREEZE_HELD,
	MONITOR_TRACER,
	MONITOR_THAW,
	MONITOR_DISCARD,
	MONITOR_SETTLED,
	MONITOR_RESIZE,
	MONITOR_CANCEL,
	MONITOR_STOP,
	MONITOR_OP_MAX_,
};

struct monitor_message {
	uint32_t op;
	int32_t code;			/* 0, negative errno, or an exit code */
	uint64_t value[4];
	uint32_t len;			/* of data */
	char data[MONITOR_DATA_MAX];
};

/* A process that still completes the container's memory while it runs. Its last
 * words on fd begin with a struct error: code 0, all is there; anything else, or
 * none, memory is missing and the container is killed. hold_fd, which is never
 * read, keeps alive what makes the kernel wait meanwhile instead of giving the
 * container zeroes; it is closed last. */
struct monitor_guard {
	int fd, hold_fd;
};
#define MONITOR_GUARD_NONE { .fd = -EBADF, .hold_fd = -EBADF }

/* What a start function works with; all of it belongs to the monitor. */
struct monitor_setup {
	struct container *container;
	struct cgroup *cgroup;
	int netns_fd;
	int userns_fd;			/* -EBADF: the container has none of its own */
	struct network_endpoint endpoint;	/* with bridge and host_ifname filled in */
	int stdio[3];			/* the container's ends of its pipes; -EBADF: none */
	int control;			/* to the process that called monitor_spawn */
	struct monitor_guard guard;	/* set by the start function */
	bool irrevocable;		/* set by the start function: it runs, and no failure
					   after it may end it */
};

/* Brings the container's init to life in the monitor; returns its pid, which
 * is a child of this process, and for a terminal its master side. The first
 * message of the control socket has not been sent yet. */
typedef int (*monitor_start_fn)(struct monitor_setup *s, void *ctx, pid_t *ret_pid,
				int *ret_terminal, struct error *err);

struct monitor_plan {
	monitor_start_fn start;
	void *ctx;
	bool attach;			/* the caller gets output from the first byte */
	bool keep_on_failure;		/* a failed start leaves the folder, as exited */
	bool adopt;			/* see monitor_adopt; no start function, no other option */
};

/* Forks the monitor. *ret_control is the caller's end of a socket with the
 * protocol above; its first message is STARTED, unless the start function
 * speaks on it before. The container's lock stays with the caller. */
int monitor_spawn(struct container *c, const struct monitor_plan *plan, int *ret_control,
		  struct error *err);

/* In the container's folder while its memory is not complete, locked by who fills it in. */
#define MONITOR_FILLING "filling"

/* It runs, and nobody is beside it. */
bool monitor_is_missing(const struct container *c, const struct container_state *st);

/* If so it gets another monitor, unless its memory is still being filled in, or it is being
 * moved: then nothing is done. That one knows neither how the container ends nor what it wrote
 * while it had none, and its input and its terminal are gone. A container whose memory can't be
 * completed any more is ended. Locked. */
int monitor_adopt(struct container *c, struct error *err);

/* Clients. monitor_call sends and waits for the reply of the same op, handing
 * OUTPUT that comes in between to nobody; fd (borrowed) travels when >= 0.
 * -ECONNREFUSED when the monitor is gone. */
int monitor_connect(const struct container *c, int *ret_fd, struct error *err);
int monitor_send(int sock, uint32_t op, const uint64_t value[4], const void *data, size_t len,
		 int fd, struct error *err);
int monitor_receive(int sock, struct monitor_message *ret, struct error *err);
int monitor_receive_fd(int sock, struct monitor_message *ret, int *ret_fd, struct error *err);
int monitor_call(int sock, uint32_t op, int fd, struct monitor_message *ret, struct error *err);
