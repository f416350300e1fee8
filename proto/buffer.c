#include <stdlib.h>
#include <string.h>

#include "engine/base/cleanup.h"
#include "proto/buffer.h"

uint8_t *buffer_reserve(struct buffer *buffer, size_t len, struct error *err)
{
	size_t capacity = buffer->capacity ? buffer->capacity : 256;
	uint8_t *data;

	if (len > SIZE_MAX / 4 - buffer->len) {
		error_set(err, ENOMEM, "a buffer can't hold %zu more bytes", len);
		return NULL;
	}
	if (buffer->capacity - buffer->len >= len && buffer->data)
		return buffer->data + buffer->len;

	while (capacity - buffer->len < len)
		capacity *= 2;
	data = realloc(buffer->data, capacity);
	if (!data) {
		error_set(err, ENOMEM, "no memory for a buffer of %zu bytes", capacity);
		return NULL;
	}
	buffer->data = data;
	buffer->capacity = capacity;
	return data + buffer->len;
}

int buffer_append(struct buffer *buffer, const void *data, size_t len, struct error *err)
{
	uint8_t *place = buffer_reserve(buffer, len, err);

	if (!place)
		return -err->code;
	if (len)
		memcpy(place, data, len);
	buffer->len += len;
	return 0;
}

void buffer_free(struct buffer *buffer)
{
	free(buffer->data);
	*buffer = (struct buffer){};
}
