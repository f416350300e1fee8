/*
 * output.h - a container's output as a log file, and reading it back
 *
 * One line of the file is one line of output, in the CRI log format that
 * kubelets read:
 *   2026-11-21T18:00:00.123456789Z stdout F text
 * with P instead of F where a line was cut because it is longer than 16 KiB or
 * its end has not come yet when the container stopped.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "engine/base/error.h"

enum output_stream { OUTPUT_STDOUT, OUTPUT_STDERR, OUTPUT_STREAMS };

#define OUTPUT_LINE_MAX 16384

/* Embedded by value; one a container. */
struct output {
	int fd;					/* owned, append mode */
	char *partial[OUTPUT_STREAMS];		/* OUTPUT_LINE_MAX bytes each */
	size_t partial_len[OUTPUT_STREAMS];
};

/* Below a container's folder; meta/ is what moves with it besides its files. */
#define OUTPUT_LOG "meta/log"

/* Opens (makes) OUTPUT_LOG below dirfd for appending. */
int output_open(int dirfd, struct output *ret, struct error *err);
void output_close(struct output *o);

/* Adds what the container wrote. A full disk is an error; the bytes are lost,
 * the container goes on. */
int output_write(struct output *o, enum output_stream stream, const char *data, size_t len,
		 struct error *err);

/* Writes out unfinished lines (as P), before the file is handed on or closed. */
int output_flush(struct output *o, struct error *err);

/* Turns one line of the file (NUL-terminated, no newline) into its parts;
 * pointers go into line. false when it is not in the format. */
bool output_parse(char *line, const char **ret_time, enum output_stream *ret_stream,
		  bool *ret_full, const char **ret_text);
