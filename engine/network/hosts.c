#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/network/hosts.h"

#define BEGIN "# containers on the same network, by godwit\n"
#define END "# end of containers on the same network\n"

int hosts_replace(const char *old, const char *lines, char **ret, struct error *err)
{
	const char *begin = strstr(old, BEGIN), *end = begin ? strstr(begin, END) : NULL;
	size_t before = end ? (size_t)(begin - old) : strlen(old);
	const char *after = end ? end + strlen(END) : "";
	bool needs_newline = before && old[before - 1] != '\n';

	if (asprintf(ret, "%.*s%s%s" BEGIN "%s" END, (int)before, old, needs_newline ? "\n" : "", after, lines) < 0)
		return error_set(err, ENOMEM, "out of memory");
	return 0;
}

/* A device or a fifo there would do something when it is opened. */
static int open_plain(int root, int *ret_fd, struct error *err)
{
	const struct open_how how = { .flags = O_PATH | O_CLOEXEC | O_NOFOLLOW,
				      .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV };
	CLEANUP(fd_closep) int path_fd = (int)syscall(SYS_openat2, root, "etc/hosts", &how, sizeof(how));
	char path[48];
	struct stat st;
	int fd;

	if (path_fd < 0 || fstat(path_fd, &st) < 0)
		return error_set(err, errno, "open /etc/hosts: %s", strerror(errno));
	if (!S_ISREG(st.st_mode) || st.st_size > HOSTS_LIMIT)
		return error_set(err, EINVAL, "/etc/hosts is no plain file");
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", path_fd);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return error_set(err, errno, "open /etc/hosts: %s", strerror(errno));
	*ret_fd = fd;
	return 0;
}

/* What is longer is cut after it has become empty lines. */
static int write_in_place(int fd, const char *text, size_t old_len, struct error *err)
{
	size_t len = strlen(text), padded = len > old_len ? len : old_len;
	CLEANUP(freep) char *whole = malloc(padded + 1);

	if (!whole)
		return error_set(err, ENOMEM, "out of memory");
	memset(stpcpy(whole, text), '\n', padded - len);
	if (pwrite(fd, whole, padded, 0) != (ssize_t)padded || ftruncate(fd, (off_t)len) < 0)
		return error_set(err, errno, "write /etc/hosts: %s", strerror(errno));
	return 0;
}

int hosts_update(pid_t init, const char *lines, struct error *err)
{
	CLEANUP(fd_closep) int root = -EBADF, fd = -EBADF;
	CLEANUP(freep) char *old = NULL;
	CLEANUP(freep) char *text = NULL;
	char path[48];
	size_t len;

	(void)snprintf(path, sizeof(path), "/proc/%d/root", (int)init);
	if (fd_open_dir_at(AT_FDCWD, path, false, 0, &root, err) < 0 || open_plain(root, &fd, err) < 0)
		return -err->code;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (fd_read_file_at(AT_FDCWD, path, HOSTS_LIMIT, &old, &len, err) < 0 ||
	    hosts_replace(old, lines, &text, err) < 0)
		return -err->code;
	return strcmp(old, text) == 0 ? 0 : write_in_place(fd, text, len, err);
}
