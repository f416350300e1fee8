/*
 * log.h - from CRIU's log to the one line that says why it failed
 *
 * CRIU logs lines such as
 *
 *   (00.012345)     12: Error (criu/files-reg.c:1831): Can't lookup mount=5 for fd=0
 *
 * (seconds since its start, the pid where a task of the container speaks). The
 * first error is normally the cause; later ones, and a few that CRIU prints
 * and survives, are not.
 */
#pragma once

#include <stddef.h>

#include "engine/base/error.h"

#define LOG_LINE_MAX 320

/* Finds the decisive line of text (NUL-terminated) and writes its message,
 * without time, pid and the word Error, with the source line at the end. One
 * line, control characters become '?', cut at LOG_LINE_MAX - 1 bytes. Returns
 * 0 or 1, "there is none" (ret is empty then). */
int log_decisive_line(const char *text, char ret[LOG_LINE_MAX]);

/* The same for the file name in the directory dirfd (borrowed); of a large
 * log only the last MiB is looked at. Returns as above, or a negative errno
 * when the log can't be read. */
int log_file_decisive_line(int dirfd, const char *name, char ret[LOG_LINE_MAX],
			   struct error *err);
