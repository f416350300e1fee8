/*
 * timers.h - periodic timerfds that were due when their container was frozen
 *
 * A timerfd_create(2) timer with an interval that has expired and not been
 * read yet is not armed again by the kernel before that read. CRIU (4.2.1
 * and before) dumps "0 left", and at the restore 0 disarms it: the program
 * would wait for ever. After a dump such timers get one nanosecond instead.
 *
 * files.img is a magic pair, then records of length and message; field 12 of
 * a record is the timerfd (CRIU's images/fdinfo.proto, timerfd.proto).
 */
#pragma once

#include <stddef.h>

#include "engine/base/error.h"

/* Changes files.img below images_fd in place; none is no error. -EPROTO when
 * it is not what CRIU writes. */
int timers_wake(int images_fd, struct error *err);

/* The same in memory; *ret_n is how many were changed. */
int timers_wake_image(void *image, size_t len, size_t *ret_n, struct error *err);
