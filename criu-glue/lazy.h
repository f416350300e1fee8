/*
 * lazy.h - the other side of `criu restore --lazy-pages`
 *
 * CRIU connects to the unix stream socket lazy-pages.socket in its images
 * directory, and for each task that has lazy memory sends the task's pid in the
 * container (int32) and a userfaultfd (SCM_RIGHTS); when all is restored, the
 * number 0x52535446. The memory that the descriptors cover waits for
 * UFFDIO_COPY or UFFDIO_ZEROPAGE: userfaultfd(2).
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "engine/base/error.h"

/* Listens at lazy-pages.socket in the directory (borrowed). */
int lazy_listen(int images_fd, int *ret_listen_fd, struct error *err);

/* Waits for CRIU's connection. */
int lazy_accept(int listen_fd, int *ret_fd, struct error *err);

enum lazy_event { LAZY_TASK, LAZY_RESTORED, LAZY_HUNG_UP };

/* The next word of CRIU, blocking. LAZY_TASK: *ret_pid, and *ret_uffd, which
 * the caller owns (-EBADF for a zombie). */
int lazy_receive(int fd, enum lazy_event *ret_event, pid_t *ret_pid, int *ret_uffd,
		 struct error *err);
