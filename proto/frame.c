#include <endian.h>
#include <errno.h>
#include <string.h>

#include "proto/checksum.h"
#include "proto/frame.h"

struct head {
	uint32_t magic;
	uint16_t type;
	uint16_t flags;
	uint32_t length;
	uint32_t checksum;
};
_Static_assert(sizeof(struct head) == WIRE_HEADER_BYTES, "no padding");

uint32_t frame_max_length(enum wire_type type)
{
	return type == WIRE_DATA ? WIRE_DATA_MAX_BYTES : WIRE_CONTROL_MAX_BYTES;
}

static uint32_t sum_of(unsigned type, unsigned flags, const void *payload, uint32_t length)
{
	uint64_t seed = (uint64_t)length << 32 | (uint64_t)flags << 16 | type;

	return (uint32_t)checksum_of(seed, payload, length);
}

/* What both directions demand; code tells whose fault it is. */
static int check(unsigned type, unsigned flags, size_t length, int code, struct error *err)
{
	const char *name = wire_type_name(type);
	unsigned known = type == WIRE_DATA ? WIRE_FLAG_ZSTD : 0;

	if (!name)
		return error_set(err, code, "frame of unknown type %u", type);
	if (flags & ~known)
		return error_set(err, code, "%s frame with unknown flags 0x%x", name,
				 flags & ~known);
	if (length > frame_max_length((enum wire_type)type))
		return error_set(err, code, "%s frame of %zu bytes; the most is %u", name, length,
				 frame_max_length((enum wire_type)type));
	if (type == WIRE_DATA && length == 0)
		return error_set(err, code, "DATA frame without data");
	return 0;
}

int frame_encode(enum wire_type type, uint16_t flags, const void *payload, size_t len,
		 uint8_t ret_head[WIRE_HEADER_BYTES], struct error *err)
{
	struct head head = {
		.magic = htole32(WIRE_MAGIC),
		.type = htole16((uint16_t)type),
		.flags = htole16(flags),
		.length = htole32((uint32_t)len),
	};
	int r = check(type, flags, len, EINVAL, err);

	if (r < 0)
		return r;
	head.checksum = htole32(sum_of(type, flags, payload, (uint32_t)len));
	memcpy(ret_head, &head, sizeof(head));
	return 0;
}

int frame_decode(const uint8_t bytes[WIRE_HEADER_BYTES], struct frame *ret, struct error *err)
{
	struct head head;
	int r;

	memcpy(&head, bytes, sizeof(head));
	if (le32toh(head.magic) != WIRE_MAGIC)
		return error_set(err, EPROTO, "this is not the godwit protocol "
				 "(a frame begins with 0x%08x)", le32toh(head.magic));
	r = check(le16toh(head.type), le16toh(head.flags), le32toh(head.length), EPROTO, err);
	if (r < 0)
		return r;

	*ret = (struct frame){
		.type = (enum wire_type)le16toh(head.type),
		.flags = le16toh(head.flags),
		.length = le32toh(head.length),
		.checksum = le32toh(head.checksum),
	};
	return 0;
}

int frame_verify(const struct frame *frame, const void *payload, struct error *err)
{
	if (sum_of(frame->type, frame->flags, payload, frame->length) != frame->checksum)
		return error_set(err, EPROTO, "%s frame arrived damaged: its checksum differs",
				 wire_type_name(frame->type));
	return 0;
}
