#include <string.h>

#include "migrate/network/held.h"
#include "proto/held.h"

void held_frames_free(struct held_frames *h)
{
	free(h->data);
	*h = (struct held_frames){ 0 };
}

/* Appends a record. */
static int keep(struct held_frames *h, const struct held *frame, struct error *err)
{
	size_t need = h->len + HELD_HEAD_BYTES + frame->len;

	if (need > HELD_BYTES_MAX) {
		h->no_room++;
		return 0;
	}
	if (need > h->size) {
		size_t size = 2 * need < 65536 ? 65536 : 2 * need;
		uint8_t *more = realloc(h->data, size);

		if (!more)
			return error_set(err, ENOMEM, "out of memory");
		h->data = more;
		h->size = size;
	}
	held_encode_head(frame, h->data + h->len);
	memcpy(h->data + h->len + HELD_HEAD_BYTES, frame->data, frame->len);
	h->len = need;
	h->frames++;
	h->bytes += frame->len;
	return 0;
}

static int take_one(const struct gate_frame *frame, void *data, struct error *err)
{
	const struct held held = { .len = frame->len, .gso_bytes = frame->gso_bytes, .data = frame->data };
	struct held_frames *h = data;

	if (frame->len < HELD_FRAME_MIN || frame->len > HELD_FRAME_MAX)
		return 0;
	return keep(h, &held, err);
}

int held_take(struct gate *gate, struct held_frames *h, struct error *err)
{
	int r;

	do {
		r = gate_take(gate, take_one, h, err);
	} while (r == 1);
	return r;
}

int held_send(struct channel *ch, struct held_frames *h, struct error *err)
{
	struct held frame;
	size_t at = h->sent;
	uint64_t n = 0;

	if (channel_tree_begin(ch, MESSAGE_TREE_HELD, "", err) < 0)
		return -err->code;
	for (; held_decode(h->data, h->len, &at, &frame, err) == 0; n++) {
		if (channel_room(ch) < at - h->sent && channel_send_data(ch, NULL, 0, err) < 0)
			return -err->code;
		if (channel_send_data(ch, h->data + h->sent, at - h->sent, err) < 0)
			return -err->code;
		h->sent = at;
	}
	return channel_tree_end(ch, n, err);
}

int held_receive(struct channel *ch, struct held_frames *h, struct error *err)
{
	const void *block;
	ssize_t len;

	while ((len = channel_receive_data(ch, &block, err)) > 0) {
		struct held frame;
		size_t at = 0;
		int r;

		while ((r = held_decode(block, (size_t)len, &at, &frame, err)) == 0)
			if (keep(h, &frame, err) < 0)
				return -err->code;
		if (r < 0)
			return r;
	}
	return (int)len;
}

void held_deliver(struct held_frames *h, held_way *way, void *ctx)
{
	struct held frame;
	struct error ignored;
	size_t at = 0;

	while (held_decode(h->data, h->len, &at, &frame, &ignored) == 0) {
		const struct gate_frame f = { .data = frame.data, .len = frame.len,
					      .gso_bytes = frame.gso_bytes };

		h->undelivered += way(ctx, &f, &ignored) < 0;
	}
	h->len = h->sent = 0;
}
