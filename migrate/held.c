#include <string.h>

#include "engine/injector.h"
#include "migrate/held.h"
#include "proto/held.h"

#define BYTES_MAX (2u * GATE_RING_BYTES)	/* what a peer may make us keep */

void held_frames_free(struct held_frames *h)
{
	free(h->data);
	*h = (struct held_frames){ 0 };
}

/* Appends a record. */
static int keep(struct held_frames *h, const struct held *frame, struct error *err)
{
	size_t need = h->len + HELD_HEAD_BYTES + frame->len;

	if (need > BYTES_MAX) {
		h->lost++;
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
	return 0;
}

static int take_one(const struct gate_frame *frame, void *data, struct error *err)
{
	const struct held h = { .len = frame->len, .gso_bytes = frame->gso_bytes, .data = frame->data };

	return frame->len < HELD_FRAME_MIN || frame->len > HELD_FRAME_MAX ? 0 : keep(data, &h, err);
}

static int send_records(struct channel *ch, const struct held_frames *h, struct error *err)
{
	struct held frame;
	size_t at = 0, from = 0;

	if (channel_tree_begin(ch, MESSAGE_TREE_HELD, "", err) < 0)
		return -err->code;
	while (held_decode(h->data, h->len, &at, &frame, err) == 0) {
		if (channel_room(ch) < at - from && channel_send_data(ch, NULL, 0, err) < 0)
			return -err->code;
		if (channel_send_data(ch, h->data + from, at - from, err) < 0)
			return -err->code;
		from = at;
	}
	return channel_tree_end(ch, h->frames, err);
}

int held_send(struct channel *ch, struct gate *gate, uint64_t *ret_frames, struct error *err)
{
	CLEANUP(held_frames_free) struct held_frames h = { 0 };
	int r;

	do {
		r = gate_take(gate, take_one, &h, err);
	} while (r == 1);
	if (r < 0 || h.frames == 0)
		return r;
	*ret_frames += h.frames;
	return send_records(ch, &h, err);
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

void held_deliver(struct held_frames *h, const char *host_ifname)
{
	CLEANUP(injector_freep) struct injector *injector = NULL;
	struct held frame;
	struct error ignored;
	size_t at = 0;

	if (h->len == 0)
		return;
	if (injector_open(-EBADF, host_ifname, &injector, &ignored) < 0) {
		h->lost += h->frames;
	} else {
		while (held_decode(h->data, h->len, &at, &frame, &ignored) == 0) {
			const struct gate_frame f = { .data = frame.data, .len = frame.len,
						      .gso_bytes = frame.gso_bytes };

			h->lost += injector_send(injector, &f, &ignored) < 0;
		}
	}
	h->len = 0;
}
