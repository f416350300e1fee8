/* MONITOR_CANCEL: whoever moves or saves the container is asked to give up. */
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>

#include "engine/monitor/monitor_state.h"

static const struct client *find_mover(const struct monitor *m)
{
	for (size_t i = 0; i < m->n_clients; i++)
		if (m->clients[i].mover)
			return &m->clients[i];
	return NULL;
}

/* Nobody else has its end of the connection: as long as that is open, the pid
 * is its own, and not one that was given out again. */
static int signal_peer(int sock)
{
	struct pollfd p = { .fd = sock };
	struct ucred peer = { 0 };
	socklen_t len = sizeof(peer);
	CLEANUP(fd_closep) int pidfd = -EBADF;

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return -errno;
	pidfd = pidfd_open(peer.pid, 0);
	if (pidfd < 0 || (poll(&p, 1, 0) > 0 && (p.revents & POLLHUP)))
		return -ESRCH;
	return pidfd_send_signal(pidfd, SIGTERM, NULL, 0) < 0 ? -errno : 0;
}

void monitor_cancel(struct monitor *m, struct client *c)
{
	const struct client *mover = find_mover(m);
	int r;

	if (monitor_is_decided(m)) {
		monitor_answer(c->fd, MONITOR_CANCEL, -EALREADY, "it is decided already that it moves");
		return;
	}
	r = mover ? signal_peer(mover->fd) : -ESRCH;
	if (r < 0)
		monitor_answer(c->fd, MONITOR_CANCEL, r, r == -ESRCH ? "no migration or checkpoint of it is under way" :
			       strerror(-r));
	else
		c->cancelling = true;
}

void monitor_cancel_settle(struct monitor *m)
{
	bool decided;

	if (find_mover(m) || m->lease.active)
		return;
	decided = monitor_is_decided(m);
	for (size_t i = 0; i < m->n_clients; i++) {
		struct client *c = &m->clients[i];

		if (!c->cancelling)
			continue;
		c->cancelling = false;
		monitor_answer(c->fd, MONITOR_CANCEL, decided ? -EALREADY : 0,
			       decided ? "it is decided already that it moves" : NULL);
	}
}
