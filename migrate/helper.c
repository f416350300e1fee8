#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/cleanup.h"
#include "migrate/helper.h"

int helper_start(helper_fn *run, const void *what, struct helper *ret, struct error *err)
{
	int pair[2];
	sigset_t all;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set(err, errno, "socketpair: %s", strerror(errno));
	pid = fork();
	if (pid == 0) {
		(void)close(pair[0]);
		(void)sigfillset(&all);
		(void)sigprocmask(SIG_SETMASK, &all, NULL);
		run(pair[1], what);
		_exit(0);
	}
	(void)close(pair[1]);
	if (pid < 0) {
		(void)error_set(err, errno, "fork: %s", strerror(errno));
		(void)close(pair[0]);
		return -err->code;
	}
	*ret = (struct helper){ .pid = pid, .sock = pair[0] };
	return 0;
}

void helper_end(struct helper *h)
{
	fd_close(&h->sock);
	if (h->pid > 0)
		while (waitpid(h->pid, NULL, 0) < 0 && errno == EINTR)
			;
	h->pid = 0;
}
