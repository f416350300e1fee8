#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/child.h"

int child_do(child_fn fn, void *ctx, struct error *err)
{
	int p[2], n, status;
	pid_t pid;

	if (pipe2(p, O_CLOEXEC) < 0)
		return error_set(err, errno, "pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0) {
		(void)error_set(err, errno, "fork: %s", strerror(errno));
		(void)close(p[0]);
		(void)close(p[1]);
		return -err->code;
	}
	if (pid == 0) {
		struct error said = { 0 };

		if (fn(ctx, &said) < 0)
			(void)!write(p[1], &said, sizeof(said));
		_exit(0);
	}
	(void)close(p[1]);
	n = (int)read(p[0], err, sizeof(*err));
	(void)close(p[0]);
	if (waitpid(pid, &status, 0) < 0)
		return error_set(err, errno, "wait for a child: %s", strerror(errno));
	if (n == sizeof(*err))
		return -err->code;
	return status ? error_set(err, EIO, "a child died over its work (status %d)", status) : 0;
}
