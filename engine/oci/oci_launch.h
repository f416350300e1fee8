/*
 * oci_launch.h - starting processes of OCI containers: create, start, exec
 *
 * create: the runtime forks a go-between, which enters the namespaces
 * (oci_namespaces.h) and forks the container's init as the runtime's child.
 * They meet on a socket pair:
 *
 *   go-between: 'u', 't'   maps, offsets wanted            runtime: a byte
 *   go-between: pid        of the init
 *   init: 'm'              everything is mounted           runtime: the init's pid; attributes are set,
 *                                                          prestart and createRuntime have run
 *   init: 'p'              in its root, with the console's runtime: 'g', state.json is written
 *                          master if there is one
 *   any: struct error      why it can't be
 *
 * Then the runtime ends, and whoever it leaves its children to (a supervisor
 * that is PR_SET_CHILD_SUBREAPER) has the init, which listens on start.sock.
 * start connects there: the init runs startContainer, becomes the program, and
 * so closes the connection; or says a struct error.
 */
#pragma once

#include "engine/oci/oci_container.h"
#include "engine/oci/oci_mounts.h"
#include "engine/oci/oci_namespaces.h"
#include "engine/oci/oci_process.h"

struct oci_launch_options {
	const char *console_socket;	/* gets the terminal's master; NULL: ret_terminal gets it */
	const char *pid_file;		/* NULL: none */
	unsigned preserve_fds;		/* of ours, from 3 on, are the program's too */
	bool no_new_keyring;
};

/* The init is a child of the caller, who may leave. *ret_terminal (may be NULL) is -EBADF when
 * there is no terminal or the console socket has it. On failure the container is gone.
 * The codes of process.h are about the program. */
int oci_create(struct oci_container *c, const struct oci_launch_options *o, int *ret_terminal, struct error *err);

/* Then runs poststart. On failure of the program the container is stopped. */
int oci_start(const struct oci_container *c, struct error *err);

/* One more process in a container that runs; a child of the caller. process is a whole
 * process object; the container's seccomp filter holds for it too. */
int oci_exec(const struct oci_container *c, const struct oci_process *process,
	     const struct oci_launch_options *o, pid_t *ret_pid, int *ret_terminal, struct error *err);

/* Poststop hooks, which can't fail, and all that is left of it. */
int oci_delete(const struct oci_container *c, struct error *err);

/* --- between the files ------------------------------------------------------------ */

enum { OCI_MOUNTED = 'm', OCI_PREPARED = 'p', OCI_GO = 'g' };

/* What the runtime prepares for an init. */
struct oci_launch {
	struct oci_container *c;
	const struct oci_launch_options *o;
	struct oci_process_plan plan;
	struct oci_namespaces namespaces;
	struct oci_mounts mounts;
	struct cgroup *cgroup;
	bool mounted;			/* the init said so; it may be before its pid is known */
	int listen_fd;
	int sock[2];			/* [0] is the runtime's */
};

/* In the new process, with only sock[1]. */
_Noreturn void oci_init_main(struct oci_launch *l);

/* A terminal of the container's devpts with the process's size; -EBADF twice when it wants none. */
int oci_terminal_open(const struct oci_process *p, int *ret_master, int *ret_slave, struct error *err);
/* Makes it (-EBADF: not) the process's stdio, or else gives what is its stdio to its user. */
int oci_terminal_take(const struct oci_process *p, int slave, struct error *err);
/* Hands a master (consumed) to whoever wants it, as the options say. */
int oci_terminal_hand_over(const struct oci_launch_options *o, int master, int *ret, struct error *err);
/* Another program hears of the terminal or listener by one message with a descriptor. */
int oci_send_fd(const char *socket_path, const char *text, int fd, struct error *err);
int oci_write_pid_file(const char *path, pid_t pid, struct error *err);

/* After a go: 0 when the program has begun. Takes care of a seccomp listener on the way. */
int oci_await_program(int sock, const struct oci_container *c, const struct oci_seccomp *s, pid_t pid,
		      struct error *err);
