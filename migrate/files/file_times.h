/*
 * file_times.h - whether a change of a file can be told by its change time
 */
#pragma once

#include <stdbool.h>
#include <time.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"

struct file_times;

/* dirfd (borrowed) tells the file system. */
int file_times_new(int dirfd, struct file_times **ret, struct error *err);
void file_times_free(struct file_times *t);
DEFINE_CLEANUP(struct file_times *, file_times_free)

/* False when the clock was set since the last call: then no two times can be compared. */
bool file_times_hold(struct file_times *t);

/* The clock by which the kernel sets times of files. */
struct timespec file_times_now(void);

/* A file whose change time was ctime when it was looked at, no earlier than at looked, gets another one by
 * any later change. */
bool file_times_settled(struct timespec ctime, struct timespec looked);

/* Whether a regular file that is open for reading at fd (borrowed) can be written only by one who opens it
 * from now on, and then gets another change time. */
bool file_times_closed(const struct file_times *t, int fd);
