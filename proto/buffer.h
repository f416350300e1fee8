/*
 * buffer.h - bytes on their way out
 *
 *	CLEANUP(buffer_free) struct buffer out = {};
 *	r = message_encode_frame(&message, &out, err);
 *	... write out.data, out.len
 *	out.len = 0;			the memory is used again
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "engine/base/error.h"

struct buffer {
	uint8_t *data;
	size_t len;
	size_t capacity;
};

/* Makes room for len more bytes and points at them; the caller fills them and
 * adds to buffer->len. NULL (and *err) without memory. */
uint8_t *buffer_reserve(struct buffer *buffer, size_t len, struct error *err);

int buffer_append(struct buffer *buffer, const void *data, size_t len, struct error *err);

/* Leaves an empty buffer that can be used again. */
void buffer_free(struct buffer *buffer);
