/*
 * fd.h - whole reads and writes, small files, descriptors over sockets
 *
 * Every descriptor that these functions make is CLOEXEC. An empty descriptor
 * variable holds -EBADF. Functions named _at take a directory descriptor,
 * which they borrow.
 *
 *   CLEANUP(freep) char *text = NULL;
 *   r = fd_read_file_at(dirfd, "state.json", 1 << 20, &text, NULL, err);
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "engine/base/error.h"

/* Reads exactly len bytes, waiting for them. Returns 0, -ENODATA when the
 * other side ended before the first byte, -EPROTO when in the middle. */
int fd_read_full(int fd, void *buf, size_t len, struct error *err);

/* Writes all of buf, waiting as needed; EPIPE is an error, never a signal,
 * only if the caller ignores SIGPIPE or fd is no pipe. */
int fd_write_full(int fd, const void *buf, size_t len, struct error *err);

/* Reads a whole small file (procfs too). The result is NUL-terminated and the
 * caller's to free; ret_len may be NULL. -EFBIG beyond limit bytes. */
int fd_read_file_at(int dirfd, const char *path, size_t limit, char **ret_text,
		    size_t *ret_len, struct error *err);

/* One write(2) into an existing file, as cgroupfs and procfs want it. */
int fd_write_file_at(int dirfd, const char *path, const char *text, struct error *err);

/* Replaces path by temporary file (".PATH.tmpPID") and rename: readers see the old text or the
 * new one, never a mixture. Durable: also after a power failure (fsync of file
 * and dirfd); that costs milliseconds, so only records that decide get it. */
enum fd_replace { FD_REPLACE, FD_REPLACE_DURABLE };
int fd_replace_file_at(int dirfd, const char *path, const void *data, size_t len,
		       mode_t mode, enum fd_replace how, struct error *err);

/* Opens a directory, or makes and opens it (mode) when create is true. */
int fd_open_dir_at(int dirfd, const char *path, bool create, mode_t mode, int *ret_fd,
		   struct error *err);

/* Names in a directory, sorted, without those that begin with a dot; to be freed with fd_list_free. */
int fd_list_at(int dirfd, const char *path, char ***ret, size_t *ret_n, struct error *err);
void fd_list_free(char **names, size_t n);

/* Removes a file or a whole tree; never follows a symlink and never crosses
 * into another file system. What is not there is no error. */
int fd_remove_tree_at(int dirfd, const char *path, struct error *err);

/* One SCM_RIGHTS message of at least one byte of data; fds are borrowed by the
 * sender and owned by the receiver. unix(7). At most 8 descriptors.
 * fd_recv_msg returns the number of data bytes, 0 at the end of the stream;
 * ret_fds[i] is -EBADF where fewer came. */
int fd_send_msg(int sock, const void *data, size_t len, const int *fds, size_t nfds,
		struct error *err);
ssize_t fd_recv_msg(int sock, void *data, size_t size, int *ret_fds, size_t nfds,
		    struct error *err);

/* Before a socket is closed: what the peer sent and nobody read would turn the close
 * into a reset, and that would hide our last message from it. */
void fd_stop_hearing(int sock);

/* Marks every descriptor from first up as CLOEXEC (close_range(2)). */
int fd_cloexec_from(unsigned first, struct error *err);

/* Closes every descriptor that is not in keep; for a process that was forked
 * and goes its own way. keep is at most 32 long, -EBADF in it is ignored. */
int fd_close_all_except(const int *keep, size_t n, struct error *err);
