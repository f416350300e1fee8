#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "criu-glue/criu.h"
#include "engine/base/cleanup.h"
#include "migrate/criu_program.h"

int criu_program_describe(char ret[CRIU_PROGRAM_TEXT_MAX], struct error *err)
{
	struct criu criu;

	if (criu_find(&criu, err) < 0)
		return -err->code;
	(void)snprintf(ret, CRIU_PROGRAM_TEXT_MAX, "CRIU %u.%u.%u (%s)", criu.version / 10000,
		       criu.version / 100 % 100, criu.version % 100, criu.path);
	return 0;
}

int criu_program_check(struct error *err)
{
	CLEANUP(fd_closep) int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct criu criu;
	int status = 0;
	pid_t pid;

	if (criu_find(&criu, err) < 0)
		return -err->code;
	pid = fork();
	if (pid == 0) {
		for (int i = 0; i < 3; i++)
			(void)dup2(null_fd, i);
		(void)execl(criu.path, "criu", "check", (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return error_set(err, errno, "start %s: %s", criu.path, strerror(errno));
	return status == 0 ? 0 : error_set(err, ENOTSUP, "'%s check' fails", criu.path);
}
