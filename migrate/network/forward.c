#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/fault.h"
#include "engine/base/fd.h"
#include "engine/network/network.h"
#include "migrate/network/forward.h"
#include "migrate/network/held.h"

static int forward_now(const struct forward *f, struct held_frames *h, struct error *err)
{
	if (held_take(f->gate, h, err) < 0)
		return -err->code;
	if (h->len == 0)
		return 0;
	if (held_send(f->channel, h, err) < 0)
		return -err->code;
	h->len = h->sent = 0;
	return 0;
}

/* True when there was something. */
static bool read_away(int fd)
{
	char text[4096];
	bool any = false;

	while (recv(fd, text, sizeof(text), MSG_DONTWAIT) >= 0)
		any = true;
	return any || errno == ENOBUFS;
}

/* Until it is time, the peer hangs up, or the container is back and has taken its place again. */
static void forward(const struct forward *f, int changes_fd)
{
	struct pollfd p[] = { { .fd = gate_fd(f->gate), .events = POLLIN },
			      { .fd = channel_fd(f->channel), .events = POLLIN },
			      { .fd = changes_fd, .events = POLLIN } };
	uint64_t end_us = clock_us() + f->for_us, now_us;
	struct held_frames h = { 0 };
	struct error ignored;

	while ((now_us = clock_us()) < end_us && !p[1].revents) {
		if (poll(p, 3, (int)((end_us - now_us + 999) / 1000)) < 0 ||
		    (p[0].revents && forward_now(f, &h, &ignored) < 0) ||
		    (p[2].revents && read_away(changes_fd) && !gate_is_there(f->gate)))
			return;
	}
}

/* Away from the terminal, the session and the descriptors of whoever started the migration. */
static int detach(const struct forward *f, struct error *err)
{
	const int keep[] = { 0, 1, 2, channel_fd(f->channel), gate_fd(f->gate), f->netns_fd };
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)prctl(PR_SET_NAME, "godwit-forward");
	for (const int *s = (const int[]){ SIGINT, SIGTERM, SIGHUP, 0 }; *s; s++)
		(void)signal(*s, SIG_DFL);
	if (setsid() < 0 || chdir("/") < 0 || null_fd < 0)
		return error_set(err, errno, "detach: %s", strerror(errno));
	for (int i = 0; i < 3; i++)
		(void)dup2(null_fd, i);
	return fd_close_all_except(keep, sizeof(keep) / sizeof(*keep), err);
}

int forward_start(const struct forward *f, struct error *err)
{
	struct error ignored;
	int changes_fd = -EBADF;
	pid_t pid = fork();

	if (pid < 0)
		return error_set(err, errno, "fork: %s", strerror(errno));
	if (pid > 0)
		return 0;
	fault_role("forward");
	if (detach(f, &ignored) == 0 && network_changes_open(&changes_fd, &ignored) == 0) {
		fault_pass("forward-begin");
		forward(f, changes_fd);
		fault_pass("forward-end");
	}
	_exit(0);
}
