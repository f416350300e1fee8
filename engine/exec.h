/*
 * exec.h - one more program in a running container
 *
 * It joins all namespaces of the container's init (setns(2) with a pidfd), its
 * control groups and root, and has the rights of the container's own program:
 * capabilities, seccomp filter, no_new_privs. It is a child of this process,
 * although in the container's pid namespace, and gets three descriptors: pipes
 * to us, or a terminal of the container's devpts. Nothing of ours is reachable
 * from the container meanwhile: until the program runs, the process is not
 * dumpable (prctl(2)), so /proc/PID of it is closed to others.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "engine/base/error.h"
#include "engine/container.h"

struct exec_plan {
	char **args;			/* NULL-terminated */
	char **env;			/* NULL-terminated, NAME=VALUE */
	const char *cwd;
	const char *user;		/* NULL: the container's own */
	bool terminal;
	bool input;			/* else stdin is /dev/null */
	bool quiet;			/* no pipes: all three are /dev/null */
};

struct exec {
	pid_t pid;			/* to be waited for by the caller */
	int fds[3];			/* ours: [0] to write, [1] and [2] to read; -EBADF: none */
	int terminal;			/* its master side, instead of fds; -EBADF: none */
};

/* *ret_home is the home directory of the plan's user in the container, for the
 * environment; call it before exec_start. */
int exec_find_home(const struct container *c, const struct container_state *st, const char *user,
		   char ret_home[256], struct error *err);

/* Returns when the program runs. The codes of process.h are about the program. */
int exec_start(const struct container *c, const struct container_state *st,
	       const struct exec_plan *plan, struct exec *ret, struct error *err);
