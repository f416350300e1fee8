/*
 * mappings.h - mm-PID.img: which mappings of a task CRIU restores at once
 *
 * A lazy restore leaves out private anonymous memory, but not what is locked
 * (mlock(2), MAP_LOCKED): its pages must be in the images. mm-PID.img is a magic
 * pair, a length and one message (mm.proto).
 *
 * Codec: bytes in, structs out; an image may come from a peer, all is checked.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "criu-glue/pagemap.h"

/* Locked private anonymous mappings in ascending order; *ret is the caller's to free,
 * NULL when there are none. -EPROTO for a damaged image. */
int mappings_locked(const void *image, size_t len, struct pagemap_range **ret, size_t *ret_n,
		    struct error *err);
