/*
 * sums.h - what the files of a checkpoint were when it was made
 *
 * DIR/sums.json: {"version":1,"files":{"pages-1.img":{"size":4096,"xxh3":"16 digits"}, ...}},
 * a line for each regular file below DIR/images. CRIU trusts its images: it
 * waits for ever for pages that a truncated one doesn't have. The sums find
 * damage, not malice (proto/checksum.h), and being written last they tell a
 * checkpoint that was not finished.
 */
#pragma once

#include "engine/base/error.h"

#define SUMS_JSON "sums.json"

/* dirfd is the checkpoint's directory (borrowed). */
int sums_write(int dirfd, struct error *err);

/* -EBADMSG names the first file that differs or is missing; files that came
 * later are none of its business. Reads every byte of DIR/images. */
int sums_check(int dirfd, struct error *err);
