/*
 * channel_fixture.h - two ends in two processes
 *
 * This one and a child that plays the peer, and exits with 0 when it saw what it should.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "migrate/channel/channel_state.h"

#define SECOND_US 1000000u
#define SEAL_ID "5ea15ea15ea15ea15ea15ea15ea15ea1"
#define WALRUS_ID "3a1453a1453a1453a1453a1453a14531"

#define OK(call)								\
	do {									\
		if ((call) != 0)						\
			fail_msg("%s: %s", #call, err.msg);			\
	} while (0)
#define FAILS(call, code_, text)						\
	do {									\
		ssize_t fails_r = (call);					\
		if (fails_r != -(code_) || !strstr(err.msg, text))		\
			fail_msg("%s: %zd %s", #call, fails_r, fails_r < 0 ? err.msg : "");	\
	} while (0)

struct peer {
	pid_t pid;
	struct channel *ours;
};

/* The child's end is the other side; both are somewhere in the sequence. */
static inline struct peer with_peer(bool (*play)(struct channel *ch), enum wire_side ours, enum sequence_state at)
{
	struct peer p = { 0 };
	struct error err;
	int s[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	p.pid = fork();
	if (p.pid == 0) {
		struct channel *ch;

		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)close(s[0]);
		if (channel_new(s[1], ours == WIRE_SOURCE ? WIRE_TARGET : WIRE_SOURCE, &ch, &err) < 0)
			_exit(2);
		ch->sequence.state = at;
		_exit(play(ch) ? 0 : 1);
	}
	(void)close(s[1]);
	OK(channel_new(s[0], ours, &p.ours, &err));
	p.ours->sequence.state = at;
	return p;
}

static inline int await_exit(struct peer *p)
{
	int status;

	channel_free(p->ours);
	assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
	return status;
}

static inline void end(struct peer *p)
{
	assert_int_equal(await_exit(p), 0);
}

static inline bool give_up(struct channel *ch)
{
	const struct error why = { .code = EIO, .msg = "the disk is on fire" };

	channel_abort(ch, &why, "nothing is left");
	return true;
}
