/*
 * process.h - how a program inside a container begins: user, rights, exec
 *
 * For the container's init and for exec sessions alike. Everything is prepared
 * before the fork; process_become runs in the child and only ever returns on
 * failure.
 */
#pragma once

#include <errno.h>
#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/error.h"
#include "engine/capability.h"

struct process {
	char *const *args;		/* NULL-terminated */
	char *const *env;
	const char *cwd;
	uint32_t uid, gid;
	const uint32_t *groups;
	size_t n_groups;
	struct capability_sets capabilities;
	uint32_t umask;
	bool keep_keyring;		/* else it gets a session keyring of its own */
	bool may_gain_privileges;	/* else no_new_privs */
	unsigned keep_fds;		/* how many descriptors from 3 on the program gets */
	const struct sock_fprog *filter;	/* NULL: none */
	unsigned filter_flags;		/* of seccomp(2) */
	int listener_sock;		/* borrowed; with SECCOMP_FILTER_FLAG_NEW_LISTENER: see below */
	const char *label;		/* NULL, or what goes to label_fd: /proc/self/attr/exec */
	int label_fd;
	bool set_personality;
	unsigned long personality;
};

/* err->code of process_become when the program itself is why: the exit codes
 * that shells give then, and errnos that no other step gives. */
enum { PROCESS_NOT_EXECUTABLE = ENOKEY, PROCESS_NOT_FOUND = EKEYEXPIRED };
_Static_assert(PROCESS_NOT_EXECUTABLE == 126 && PROCESS_NOT_FOUND == 127, "as sh(1)");

/* In the child, before process_become: closes every descriptor but stdio and the one
 * that errors are reported to. What is open on the host could be entered through
 * /proc/self/fd, by a working directory or a program of that path. */
int process_leave_host(int report_fd, struct error *err);

/* The container's /dev/null, by a process that has its root. Whatever else it has put there, such as a link of
 * /proc to what is open in this process, is refused. */
int process_open_null(int *ret_fd, struct error *err);

/* In the child, inside the container's namespaces and root: fds above 2 become
 * CLOEXEC, working directory (made when missing), session keyring, groups, user, capabilities,
 * no_new_privs, seccomp, default signals, exec along PATH of env. A filter that
 * privileges can be gained under is installed while there still are some. The
 * number of a new listener goes to listener_sock by write(2) (int32_t), and the
 * program waits for a byte from there: by then whoever supervises has it. */
int process_become(const struct process *p, struct error *err);

/* Whether there is such a program, with the codes of above; to be called with the
 * container's root as ours. */
int process_find_program(const struct process *p, struct error *err);

/* "root", "1000", "redis:redis", "1000:100" against the /etc/passwd and
 * /etc/group below root_fd (borrowed). groups is the caller's to free;
 * ret_home gets the user's home directory, or "/". */
int process_find_user(int root_fd, const char *text, uint32_t *ret_uid, uint32_t *ret_gid,
		      uint32_t **ret_groups, size_t *ret_n, char ret_home[256], struct error *err);
