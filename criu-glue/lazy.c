#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "criu-glue/lazy.h"
#include "engine/base/cleanup.h"
#include "engine/base/fd.h"

#define SOCKET_NAME "lazy-pages.socket"
#define WORD_RESTORED 0x52535446

int lazy_listen(int images_fd, int *ret_listen_fd, struct error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return error_set(err, errno, "socket: %s", strerror(errno));
	if (unlinkat(images_fd, SOCKET_NAME, 0) < 0 && errno != ENOENT)
		return error_set(err, errno, "remove an old " SOCKET_NAME ": %s", strerror(errno));
	(void)snprintf(address.sun_path, sizeof(address.sun_path),
		       "/proc/self/fd/%d/" SOCKET_NAME, images_fd);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1) < 0)
		return error_set(err, errno, "listen at " SOCKET_NAME ": %s", strerror(errno));
	*ret_listen_fd = TAKE_FD(fd);
	return 0;
}

int lazy_accept(int listen_fd, int *ret_fd, struct error *err)
{
	int fd;

	do {
		fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	} while (fd < 0 && errno == EINTR);
	if (fd < 0)
		return error_set(err, errno, "accept CRIU: %s", strerror(errno));
	*ret_fd = fd;
	return 0;
}

int lazy_receive(int fd, enum lazy_event *ret_event, pid_t *ret_pid, int *ret_uffd,
		 struct error *err)
{
	CLEANUP(fd_closep) int uffd = -EBADF;
	int32_t word;
	char mark;
	int r;

	r = fd_read_full(fd, &word, sizeof(word), err);
	if (r == -ENODATA) {
		*ret_event = LAZY_HUNG_UP;
		return 0;
	}
	if (r < 0)
		return error_wrap(err, "CRIU's lazy pages");
	if (word == WORD_RESTORED) {
		*ret_event = LAZY_RESTORED;
		return 0;
	}
	if (word > 0 && fd_recv_msg(fd, &mark, sizeof(mark), &uffd, 1, err) < 0)
		return error_wrap(err, "CRIU's lazy pages");
	if (word == 0 || word == INT32_MIN || (word > 0 && uffd < 0))
		return error_set(err, EPROTO, "CRIU's lazy pages: no userfaultfd of process %d",
				 word);
	*ret_event = LAZY_TASK;
	*ret_pid = word > 0 ? word : -word;
	*ret_uffd = TAKE_FD(uffd);
	return 0;
}
