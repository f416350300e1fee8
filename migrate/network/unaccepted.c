#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <time.h>

#include "engine/base/cleanup.h"
#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "migrate/network/inet_diag.h"
#include "migrate/network/unaccepted.h"

#define LISTENERS_MAX 64
#define STATES (1u << TCP_LISTEN | 1u << TCP_SYN_RECV)

/* Listening sockets with connections in their queue, and how many those are. */
struct queues {
	uint32_t inodes[LISTENERS_MAX];
	unsigned ports[LISTENERS_MAX];
	size_t n;
	unsigned waiting, handshakes;
	unsigned port; /* of one of them */
};

static void look_at(void *ctx, const struct inet_diag_msg *m)
{
	struct queues *q = ctx;

	if (m->idiag_state == TCP_SYN_RECV) {
		if (m->idiag_retrans)
			return;		/* the first answer was lost, or the client is not there */
		q->handshakes++;
	} else if (m->idiag_rqueue) {
		q->waiting += m->idiag_rqueue;
		if (q->n < LISTENERS_MAX) {
			q->inodes[q->n] = m->idiag_inode;
			q->ports[q->n++] = ntohs(m->id.idiag_sport);
		}
	} else {
		return;
	}
	q->port = ntohs(m->id.idiag_sport);
}

static int look(int diag_fd, struct queues *ret, struct error *err)
{
	*ret = (struct queues){ 0 };
	return inet_diag_each(diag_fd, IPPROTO_TCP, STATES, look_at, ret, err);
}

/* The kernel tells nobody when a queue becomes empty. */
static void rest(void)
{
	(void)nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

int unaccepted_wait(pid_t pid, uint64_t wait_us, struct error *err)
{
	uint64_t end_us = clock_us() + wait_us;
	CLEANUP(fd_closep)
	int diag = -EBADF;
	struct queues q;

	if (inet_diag_open(pid, &diag, err) < 0)
		return -err->code;
	for (;;) {
		if (look(diag, &q, err) < 0)
			return -err->code;
		if (!q.waiting && !q.handshakes)
			return 0;
		if (clock_us() >= end_us + (q.waiting ? 0 : UNACCEPTED_SILENT_US))
			break;
		rest();
	}
	if (q.waiting)
		return error_set(err, EBUSY, "%u connections to port %u wait to be accepted, and can't be moved so: "
					     "try again when the program has accepted them",
				 q.waiting, q.port);
	return error_set(err, EBUSY, "%u connections to port %u are being set up and the clients do not answer: "
				     "try again later",
			 q.handshakes, q.port);
}

static bool has(const struct queues *q, uint32_t inode)
{
	for (size_t i = 0; i < q->n; i++)
		if (q->inodes[i] == inode)
			return true;
	return false;
}

static void keep_common(struct queues *q, const struct queues *now)
{
	size_t n = 0;

	for (size_t i = 0; i < q->n; i++)
		if (has(now, q->inodes[i])) {
			q->inodes[n] = q->inodes[i];
			q->ports[n++] = q->ports[i];
		}
	q->n = n;
}

bool unaccepted_stuck(int diag_fd, unsigned *ret_port)
{
	uint64_t end_us = clock_us() + UNACCEPTED_LOOK_US;
	struct queues all, now;
	struct error ignored;

	if (look(diag_fd, &all, &ignored) < 0)
		return false;
	while (all.n && clock_us() < end_us) {
		rest();
		if (look(diag_fd, &now, &ignored) < 0)
			return false;
		keep_common(&all, &now);
	}
	if (all.n)
		*ret_port = all.ports[0];
	return all.n > 0;
}
