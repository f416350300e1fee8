#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "migrate/serve/door.h"

static struct sockaddr_un address_of(int dir_fd, const char *name)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	(void)snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/%s", dir_fd, name);
	return a;
}

int door_open(int dir_fd, const char *name, int *ret_fd, struct error *err)
{
	const struct sockaddr_un a = address_of(dir_fd, name);
	CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	(void)unlinkat(dir_fd, name, 0);
	if (fd < 0 || bind(fd, (const struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 16) < 0)
		return error_set(err, errno, "listen at %s: %s", name, strerror(errno));
	*ret_fd = TAKE_FD(fd);
	return 0;
}

void door_close(int dir_fd, const char *name, int *fd_ref)
{
	if (*fd_ref >= 0)
		(void)unlinkat(dir_fd, name, 0);
	fd_close(fd_ref);
}

int door_answer(int door_fd, int *ret_caller, int *ret_passed, struct error *err)
{
	CLEANUP(fd_closep) int caller = accept4(door_fd, NULL, NULL, SOCK_CLOEXEC);
	const struct timeval patience = { .tv_sec = 1 };
	char byte;

	if (caller < 0)
		return error_set(err, errno == ECONNABORTED ? EAGAIN : errno, "accept: %s", strerror(errno));
	(void)setsockopt(caller, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	*ret_passed = -EBADF;
	if (fd_recv_msg(caller, &byte, sizeof(byte), ret_passed, 1, err) < 0)
		return -err->code;
	*ret_caller = TAKE_FD(caller);
	return 0;
}

int door_reach(int dir_fd, const char *name, int *ret_fd, struct error *err)
{
	const struct sockaddr_un a = address_of(dir_fd, name);
	CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)&a, sizeof(a)) < 0)
		return error_set(err, errno, "%s: %s", name, strerror(errno));
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int door_pass(int fd, int passed_fd, struct error *err)
{
	return fd_send_msg(fd, "", 1, &passed_fd, passed_fd >= 0, err);
}

int door_knock(int dir_fd, const char *name, int passed_fd, int *ret_caller, struct error *err)
{
	CLEANUP(fd_closep) int fd = -EBADF;

	if (door_reach(dir_fd, name, &fd, err) < 0 || door_pass(fd, passed_fd, err) < 0)
		return -err->code;
	if (ret_caller)
		*ret_caller = TAKE_FD(fd);
	return 0;
}
