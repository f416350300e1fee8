#include "proto/buffer.h"
#include "proto/frame_reader.h"

struct frame_reader {
	uint8_t head[WIRE_HEADER_BYTES];
	size_t filled;			/* of head, then of the payload behind it */
	struct frame frame;		/* valid when head is full */
	struct buffer payload;		/* payload.len is what is there of it */
	bool complete;
};

int frame_reader_new(struct frame_reader **ret, struct error *err)
{
	CLEANUP(frame_reader_freep) struct frame_reader *reader = calloc(1, sizeof(*reader));

	if (!reader)
		return error_set(err, ENOMEM, "no memory to read frames");
	if (!buffer_reserve(&reader->payload, 1, err))
		return -err->code;
	*ret = TAKE_PTR(reader);
	return 0;
}

void frame_reader_free(struct frame_reader *reader)
{
	if (!reader)
		return;
	buffer_free(&reader->payload);
	free(reader);
}

static bool head_is_full(const struct frame_reader *reader)
{
	return reader->filled >= WIRE_HEADER_BYTES;
}

void *frame_reader_space(struct frame_reader *reader, size_t *ret_size)
{
	if (reader->complete) {
		reader->complete = false;
		reader->filled = 0;
		reader->payload.len = 0;
	}
	if (!head_is_full(reader)) {
		*ret_size = WIRE_HEADER_BYTES - reader->filled;
		return reader->head + reader->filled;
	}
	*ret_size = reader->frame.length - reader->payload.len;
	return reader->payload.data + reader->payload.len;
}

/* The header is there: check it, then make room for what it announces. */
static int begin_payload(struct frame_reader *reader, struct error *err)
{
	int r = frame_decode(reader->head, &reader->frame, err);

	if (r < 0)
		return r;
	if (!buffer_reserve(&reader->payload, reader->frame.length, err))
		return -err->code;
	return 0;
}

int frame_reader_advance(struct frame_reader *reader, size_t n, struct error *err)
{
	bool in_head = !head_is_full(reader);
	int r;

	reader->filled += n;
	if (!in_head)
		reader->payload.len += n;
	if (!head_is_full(reader))
		return 0;
	if (in_head) {
		r = begin_payload(reader, err);
		if (r < 0)
			return r;
	}
	if (reader->payload.len < reader->frame.length)
		return 0;
	r = frame_verify(&reader->frame, reader->payload.data, err);
	if (r < 0)
		return r;
	reader->complete = true;
	return 1;
}

const struct frame *frame_reader_frame(const struct frame_reader *reader)
{
	return &reader->frame;
}

const void *frame_reader_payload(const struct frame_reader *reader)
{
	return reader->payload.data;
}

bool frame_reader_is_idle(const struct frame_reader *reader)
{
	return reader->complete || reader->filled == 0;
}
