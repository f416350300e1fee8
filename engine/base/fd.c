#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "engine/base/cleanup.h"
#include "engine/base/fault.h"
#include "engine/base/fd.h"

#define MSG_FDS_MAX 8

int fd_read_full(int fd, void *buf, size_t len, struct error *err)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = read(fd, (char *)buf + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(err, errno, "read: %s", strerror(errno));
		if (n == 0)
			return error_set(err, done ? EPROTO : ENODATA,
					 done ? "ended in the middle of a message" :
						"the other side closed the connection");
		done += (size_t)n;
	}
	return 0;
}

int fd_write_full(int fd, const void *buf, size_t len, struct error *err)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = write(fd, (const char *)buf + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(err, errno, "write: %s", strerror(errno));
		done += (size_t)n;
	}
	return 0;
}

/* Grows by doubling: procfs files have no size to ask for. */
static int read_all(int fd, size_t limit, char **ret_text, size_t *ret_len, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	size_t len = 0, size = 0;

	for (;;) {
		ssize_t n;

		if (len + 1 >= size) {
			char *more = realloc(text, size = size ? size * 2 : 4096);

			if (!more)
				return error_set(err, ENOMEM, "out of memory");
			text = more;
		}
		n = read(fd, text + len, size - len - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(err, errno, "read: %s", strerror(errno));
		if (n == 0)
			break;
		len += (size_t)n;
		if (len > limit)
			return error_set(err, EFBIG, "larger than %zu bytes", limit);
	}
	text[len] = '\0';
	*ret_text = TAKE_PTR(text);
	if (ret_len)
		*ret_len = len;
	return 0;
}

int fd_read_file_at(int dirfd, const char *path, size_t limit, char **ret_text,
		    size_t *ret_len, struct error *err)
{
	CLEANUP(fd_closep) int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return error_set(err, errno, "open %s: %s", path, strerror(errno));
	if (read_all(fd, limit, ret_text, ret_len, err) < 0)
		return error_wrap(err, "%s", path);
	return 0;
}

int fd_write_file_at(int dirfd, const char *path, const char *text, struct error *err)
{
	CLEANUP(fd_closep) int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	size_t len = strlen(text);
	ssize_t n;

	if (fd < 0)
		return error_set(err, errno, "open %s: %s", path, strerror(errno));
	n = write(fd, text, len);
	if (n < 0)
		return error_set(err, errno, "write '%s' to %s: %s", text, path, strerror(errno));
	if ((size_t)n != len)
		return error_set(err, EIO, "write '%s' to %s: only %zd bytes taken", text, path, n);
	return 0;
}

/* A record is written under a hidden name before it gets its own. */
static int file_point(const char *path, const char *step, struct error *err)
{
	return fault_point_of(path[0] == '.' ? "record" : path, step, err);
}

static int write_new(int dirfd, const char *path, const char *tmp, const void *data, size_t len,
		     mode_t mode, enum fd_replace how, struct error *err)
{
	CLEANUP(fd_closep) int fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC |
					   O_NOFOLLOW, mode);

	if (fd < 0)
		return error_set(err, errno, "create: %s", strerror(errno));
	if (file_point(path, "create", err) < 0 || fd_write_full(fd, data, len, err) < 0)
		return -err->code;
	if (how == FD_REPLACE)
		return 0;
	if (file_point(path, "fsync", err) < 0)
		return -err->code;
	return fsync(fd) < 0 ? error_set(err, errno, "fsync: %s", strerror(errno)) : 0;
}

static int sync_folder(int dirfd, const char *path, struct error *err)
{
	if (file_point(path, "dirsync", err) < 0)
		return -err->code;
	return fsync(dirfd) < 0 ? error_set(err, errno, "%s", strerror(errno)) : 0;
}

int fd_replace_file_at(int dirfd, const char *path, const void *data, size_t len,
		       mode_t mode, enum fd_replace how, struct error *err)
{
	char tmp[NAME_MAX + 1];

	if (snprintf(tmp, sizeof(tmp), ".%s.tmp%d", path, (int)getpid()) >= (int)sizeof(tmp))
		return error_set(err, ENAMETOOLONG, "%s: name too long", path);
	if (write_new(dirfd, path, tmp, data, len, mode, how, err) < 0 ||
	    file_point(path, "rename", err) < 0 || (renameat(dirfd, tmp, dirfd, path) < 0 &&
	     error_set(err, errno, "rename: %s", strerror(errno)))) {
		(void)unlinkat(dirfd, tmp, 0);
		return error_wrap(err, "write %s", path);
	}
	fault_pass_of(path[0] == '.' ? "record" : path, "renamed");
	if (how == FD_REPLACE_DURABLE && sync_folder(dirfd, path, err) < 0)
		return error_wrap(err, "write %s: fsync of its folder", path);
	return 0;
}

int fd_open_dir_at(int dirfd, const char *path, bool create, mode_t mode, int *ret_fd,
		   struct error *err)
{
	int fd;

	if (create && mkdirat(dirfd, path, mode) < 0 && errno != EEXIST)
		return error_set(err, errno, "mkdir %s: %s", path, strerror(errno));
	fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return error_set(err, errno, "open %s: %s", path, strerror(errno));
	*ret_fd = fd;
	return 0;
}

static int remove_tree(int dirfd, const char *path, dev_t dev, struct error *err);

static int remove_children(int fd_consumed, dev_t dev, struct error *err)
{
	CLEANUP(dir_closep) DIR *d = fdopendir(fd_consumed);
	struct dirent *e;

	if (!d) {
		fd_close(&fd_consumed);
		return error_set(err, ENOMEM, "out of memory");
	}
	while ((e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (remove_tree(dirfd(d), e->d_name, dev, err) < 0)
			return -err->code;
	}
	return 0;
}

static int remove_tree(int parent, const char *path, dev_t dev, struct error *err)
{
	struct stat st;
	int fd;

	if (unlinkat(parent, path, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return error_set(err, errno, "remove %s: %s", path, strerror(errno));
	fd = openat(parent, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		int code = errno;

		fd_close(&fd);
		return error_set(err, code, "remove %s: %s", path, strerror(code));
	}
	if (dev && st.st_dev != dev) {
		fd_close(&fd);
		return error_set(err, EBUSY, "remove %s: a file system is mounted there", path);
	}
	if (remove_children(fd, st.st_dev, err) < 0)
		return error_wrap(err, "%s", path);
	if (unlinkat(parent, path, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return error_set(err, errno, "rmdir %s: %s", path, strerror(errno));
	return 0;
}

int fd_remove_tree_at(int dirfd, const char *path, struct error *err)
{
	return remove_tree(dirfd, path, 0, err);
}

int fd_send_msg(int sock, const void *data, size_t len, const int *fds, size_t nfds,
		struct error *err)
{
	char control[CMSG_SPACE(MSG_FDS_MAX * sizeof(int))] = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)data, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (nfds > MSG_FDS_MAX)
		return error_set(err, E2BIG, "more than %d descriptors in a message", MSG_FDS_MAX);
	if (nfds) {
		struct cmsghdr *c;

		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	}
	do {
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return error_set(err, errno, "send: %s", strerror(errno));
	if ((size_t)n != len)
		return error_set(err, EIO, "send: message cut short");
	return 0;
}

static void take_fds(struct msghdr *msg, int *ret_fds, size_t nfds)
{
	size_t have = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		int fd;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (have < nfds)
				ret_fds[have++] = fd;
			else
				fd_close(&fd);
		}
	}
}

ssize_t fd_recv_msg(int sock, void *data, size_t size, int *ret_fds, size_t nfds,
		    struct error *err)
{
	char control[CMSG_SPACE(MSG_FDS_MAX * sizeof(int))] = { 0 };
	struct iovec iov = { .iov_base = data, .iov_len = size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
			      .msg_controllen = sizeof(control) };
	ssize_t n;

	for (size_t i = 0; i < nfds; i++)
		ret_fds[i] = -EBADF;
	do {
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return error_set(err, errno, "receive: %s", strerror(errno));
	take_fds(&msg, ret_fds, nfds);
	return n;
}

int fd_cloexec_from(unsigned first, struct error *err)
{
	if (syscall(SYS_close_range, first, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		return error_set(err, errno, "close_range: %s", strerror(errno));
	return 0;
}

static int compare_ints(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

int fd_close_all_except(const int *keep, size_t n, struct error *err)
{
	int sorted[32], next = 0;

	if (n > sizeof(sorted) / sizeof(*sorted))
		return error_set(err, E2BIG, "more than 32 descriptors to keep");
	memcpy(sorted, keep, n * sizeof(*keep));
	qsort(sorted, n, sizeof(*sorted), compare_ints);
	for (size_t i = 0; i < n; i++) {
		if (sorted[i] > next)
			(void)syscall(SYS_close_range, next, sorted[i] - 1, 0);
		if (sorted[i] >= next)
			next = sorted[i] + 1;
	}
	if (syscall(SYS_close_range, next, ~0U, 0) < 0)
		return error_set(err, errno, "close_range: %s", strerror(errno));
	return 0;
}

void fd_stop_hearing(int sock)
{
	char byte;

	(void)shutdown(sock, SHUT_RD);
	while (recv(sock, &byte, 1, MSG_DONTWAIT) > 0)
		;
}
