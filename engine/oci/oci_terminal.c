/* Stdio of a container's process, and what goes to other programs over their sockets. */
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "engine/base/fd.h"
#include "engine/oci/oci_launch.h"
#include "engine/terminal.h"

int oci_terminal_open(const struct oci_process *p, int *ret_master, int *ret_slave, struct error *err)
{
	const struct oci_box *size = p->console_size;

	*ret_master = *ret_slave = -EBADF;
	if (!p->terminal)
		return 0;
	if (terminal_open("/dev/pts", ret_master, ret_slave, err) < 0)
		return -err->code;
	if (size && size->height.value > 0 && size->width.value > 0)
		(void)terminal_set_size(*ret_master, (unsigned short)size->height.value,
					(unsigned short)size->width.value);
	return 0;
}

static bool is_null(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(1, 3);
}

/* The container's own instead of the host's, which nobody inside could open again and CRIU
 * could not find. */
static void reopen_null(void)
{
	CLEANUP(fd_closep) int fd = open("/dev/null", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !is_null(&st))
		return;
	for (int i = 0; i < 3; i++)
		if (fstat(i, &st) == 0 && is_null(&st))
			(void)dup2(fd, i);
}

/* So that a program which is not root can open /dev/stdout; what can't be given is left. */
static void give_stdio(uint32_t uid)
{
	for (int fd = 0; fd < 3; fd++) {
		struct stat st;

		if (fstat(fd, &st) == 0 && !is_null(&st) && st.st_uid != uid)
			(void)fchown(fd, uid, st.st_gid);
	}
}

int oci_terminal_take(const struct oci_process *p, int slave, struct error *err)
{
	for (int fd = 0; slave >= 0 && fd < 3; fd++)
		if (dup2(slave, fd) < 0)
			return error_set(err, errno, "set up stdio: %s", strerror(errno));
	if (slave >= 0 && ioctl(0, TIOCSCTTY, 0) < 0)
		return error_set(err, errno, "take the terminal: %s", strerror(errno));
	reopen_null();
	give_stdio(p->user ? (uint32_t)p->user->uid.value : 0);
	return 0;
}

int oci_send_fd(const char *socket_path, const char *text, int fd, struct error *err)
{
	CLEANUP(fd_closep) int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	if (sock < 0)
		return error_set(err, errno, "socket: %s", strerror(errno));
	if ((size_t)snprintf(a.sun_path, sizeof(a.sun_path), "%s", socket_path) >= sizeof(a.sun_path))
		return error_set(err, ENAMETOOLONG, "%s is longer than a socket's path may be", socket_path);
	if (connect(sock, (const struct sockaddr *)&a, sizeof(a)) < 0)
		return error_set(err, errno, "connect to %s: %s", socket_path, strerror(errno));
	return fd_send_msg(sock, text, strlen(text), &fd, 1, err);
}

int oci_terminal_hand_over(const struct oci_launch_options *o, int master, int *ret, struct error *err)
{
	CLEANUP(fd_closep) int owned = master;

	if (ret)
		*ret = -EBADF;
	if (owned < 0)
		return 0;
	if (o->console_socket)
		return oci_send_fd(o->console_socket, "/dev/ptmx", owned, err) < 0 ? error_wrap(err,
			"--console-socket") : 0;
	if (ret)
		*ret = TAKE_FD(owned);
	return 0;
}

/* Whoever waits for the file finds it whole. */
int oci_write_pid_file(const char *path, pid_t pid, struct error *err)
{
	CLEANUP(freep) char *copy = strdup(path);
	CLEANUP(fd_closep) int dir = -EBADF;
	char *slash = copy ? strrchr(copy, '/') : NULL, text[16];
	int n = snprintf(text, sizeof(text), "%d", (int)pid);

	if (!copy)
		return error_set(err, ENOMEM, "out of memory");
	if (slash)
		*slash = '\0';
	if (fd_open_dir_at(AT_FDCWD, !slash ? "." : *copy ? copy : "/", false, 0, &dir, err) < 0 ||
	    fd_replace_file_at(dir, slash ? slash + 1 : copy, text, (size_t)n, 0644, FD_REPLACE, err) < 0)
		return error_wrap(err, "--pid-file");
	return 0;
}

/* runtime-spec config-linux.md "The Container Process State". */
static int give_listener(const struct oci_container *c, const struct oci_seccomp *s, pid_t pid, int number,
			 struct error *err)
{
	CLEANUP(fd_closep) int process = pidfd_open(pid, 0), listener = -EBADF;
	json_t *state = json_pack("{s:s, s:[s], s:i, s:s, s:o}", "ociVersion", OCI_VERSION, "fds", "seccompFd", "pid",
				  (int)pid, "metadata", s->listener_metadata ? s->listener_metadata : "", "state",
				  oci_container_state(c, oci_container_status(c), false));
	CLEANUP(freep) char *text = state ? json_dumps(state, JSON_COMPACT) : NULL;

	json_decref(state);
	if (!text)
		return error_set(err, ENOMEM, "out of memory");
	listener = process < 0 ? -EBADF : pidfd_getfd(process, number, 0);
	if (listener < 0)
		return error_set(err, errno, "take the seccomp listener: %s", strerror(errno));
	return oci_send_fd(s->listener_path, text, listener, err) < 0 ?
		error_wrap(err, "linux.seccomp.listenerPath") : 0;
}

int oci_await_program(int sock, const struct oci_container *c, const struct oci_seccomp *s, pid_t pid,
		      struct error *err)
{
	struct error said;

	for (;;) {
		ssize_t n = fd_recv_msg(sock, &said, sizeof(said), NULL, 0, err);
		int32_t number;
		char go = OCI_GO;

		if (n < 0)
			return (int)n;
		if (n == 0)
			return 0;
		if (n == sizeof(said)) {
			*err = said;
			err->msg[sizeof(err->msg) - 1] = '\0';
			return -err->code;
		}
		if (n != sizeof(number) || !s)
			return error_set(err, EPROTO, "the container's process says what it should not");
		memcpy(&number, &said, sizeof(number));
		if (give_listener(c, s, pid, number, err) < 0 || fd_send_msg(sock, &go, 1, NULL, 0, err) < 0)
			return -err->code;
	}
}
