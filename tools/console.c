#include <string.h>
#include <sys/signalfd.h>

#include "engine/base/cleanup.h"
#include "engine/terminal.h"
#include "tools/console.h"

static const int passed_on[] = {
	SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH,
};

int console_open(bool terminal, struct console *ret, struct error *err)
{
	struct console c = { .signal_fd = -EBADF };
	sigset_t set;

	(void)sigemptyset(&set);
	for (size_t i = 0; i < sizeof(passed_on) / sizeof(*passed_on); i++)
		(void)sigaddset(&set, passed_on[i]);
	c.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (c.signal_fd < 0)
		return error_set(err, errno, "signalfd: %s", strerror(errno));
	if (terminal && terminal_make_raw(STDIN_FILENO, &c.old, err) < 0) {
		fd_close(&c.signal_fd);
		return -err->code;
	}
	c.raw = terminal;
	(void)sigprocmask(SIG_BLOCK, &set, &c.old_mask);
	*ret = c;
	return 0;
}

void console_close(struct console *c)
{
	if (c->raw)
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &c->old);
	if (c->signal_fd >= 0)
		(void)sigprocmask(SIG_SETMASK, &c->old_mask, NULL);
	fd_close(&c->signal_fd);
}

int console_signal(const struct console *c)
{
	struct signalfd_siginfo si;

	return read(c->signal_fd, &si, sizeof(si)) == sizeof(si) ? (int)si.ssi_signo : 0;
}
