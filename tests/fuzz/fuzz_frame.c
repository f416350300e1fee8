/*
 * Input: a byte of options, then what a source sends on a connection. Bit 0 of
 * the options puts the right checksums in, so that the search gets behind them;
 * the rest is the size of the pieces in which it arrives. The whole way of a
 * receiver is gone: reader, sequence, messages, blocks.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/base/cleanup.h"
#include "proto/block.h"
#include "proto/frame_reader.h"
#include "proto/message.h"
#include "proto/sequence.h"
#include "tests/fuzz/fuzz.h"

struct receiver {
	struct frame_reader *reader;
	struct block_decoder *decoder;
	struct sequence sequence;
	uint8_t *room;
};

static void receiver_end(struct receiver *receiver)
{
	frame_reader_free(receiver->reader);
	block_decoder_free(receiver->decoder);
	free(receiver->room);
}

/* Writes the right checksum into every frame that is there in full. */
static void seal(uint8_t *bytes, size_t size)
{
	struct frame frame;
	struct error err;

	while (size >= WIRE_HEADER_BYTES && frame_decode(bytes, &frame, &err) == 0) {
		size -= WIRE_HEADER_BYTES;
		if (frame.length > size)
			return;
		if (frame_encode(frame.type, frame.flags, bytes + WIRE_HEADER_BYTES, frame.length,
				 bytes, &err) < 0)
			abort();
		size -= frame.length;
		bytes += WIRE_HEADER_BYTES + frame.length;
	}
}

static int take_block(struct receiver *receiver, const struct frame *frame, const void *payload,
		      struct error *err)
{
	struct block block;
	int r;

	r = block_decode(receiver->decoder, frame->flags, payload, frame->length, receiver->room,
			 WIRE_RAW_MAX_BYTES, &block, err);
	if (r < 0)
		return r;
	if (block.len == 0 || block.len > WIRE_RAW_MAX_BYTES)
		abort();
	return sequence_step(&receiver->sequence, WIRE_SOURCE, WIRE_DATA, NULL, err);
}

/* What the target says by itself, so that the conversation goes on. */
static void answer(struct sequence *sequence)
{
	static const struct message answers[] = {
		{ .type = WIRE_HELLO },
		{ .type = WIRE_VERDICT, .verdict = { .accepted = true, .image_wanted = true } },
		{ .type = WIRE_PREPARED }, { .type = WIRE_RESTORED }, { .type = WIRE_RESUMED },
		{ .type = WIRE_ANSWER },
	};
	struct error err;

	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++)
		(void)sequence_step(sequence, WIRE_TARGET, answers[i].type, &answers[i], &err);
}

static int take_frame(struct receiver *receiver, struct error *err)
{
	const struct frame *frame = frame_reader_frame(receiver->reader);
	const void *payload = frame_reader_payload(receiver->reader);
	CLEANUP(message_free) struct message message = {};
	int r;

	if (frame->length > frame_max_length(frame->type))
		abort();
	r = sequence_check(&receiver->sequence, WIRE_SOURCE, frame->type, err);
	if (r < 0)
		return r;
	if (frame->type == WIRE_DATA)
		return take_block(receiver, frame, payload, err);
	r = message_decode(frame->type, payload, frame->length, &message, err);
	if (r < 0)
		return r;
	r = sequence_step(&receiver->sequence, WIRE_SOURCE, frame->type, &message, err);
	if (r == 0)
		answer(&receiver->sequence);
	return r;
}

static void receive(struct receiver *receiver, const uint8_t *bytes, size_t size, size_t piece)
{
	struct error err;

	while (size > 0) {
		size_t space;
		void *place = frame_reader_space(receiver->reader, &space);
		size_t n = space < piece ? space : piece;
		int r;

		if (space == 0)
			abort();
		n = n < size ? n : size;
		memcpy(place, bytes, n);
		bytes += n;
		size -= n;
		r = frame_reader_advance(receiver->reader, n, &err);
		if (r == 1)
			r = take_frame(receiver, &err);
		if (r < 0)
			return;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(receiver_end) struct receiver receiver = { .sequence = SEQUENCE_INIT };
	CLEANUP(freep) uint8_t *bytes = malloc(size + !size);
	struct error err;

	receiver.room = malloc(WIRE_RAW_MAX_BYTES);
	if (!bytes || !receiver.room || frame_reader_new(&receiver.reader, &err) < 0 ||
	    block_decoder_new(&receiver.decoder, &err) < 0)
		abort();
	if (size == 0)
		return 0;
	memcpy(bytes, data + 1, size - 1);
	if (data[0] & 1)
		seal(bytes, size - 1);
	receive(&receiver, bytes, size - 1, 1u + (data[0] >> 1));
	return 0;
}
