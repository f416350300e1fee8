#include <endian.h>
#include <errno.h>
#include <string.h>

#include "proto/held.h"

void held_encode_head(const struct held *h, uint8_t ret[HELD_HEAD_BYTES])
{
	const uint32_t head[2] = { htole32(h->len), htole32(h->gso_bytes) };

	memcpy(ret, head, sizeof(head));
}

int held_decode(const void *block, size_t len, size_t *at, struct held *ret, struct error *err)
{
	uint32_t head[2];
	struct held h;

	if (*at == len)
		return 1;
	if (len - *at < sizeof(head))
		return error_set(err, EPROTO, "a held frame is cut short");
	memcpy(head, (const uint8_t *)block + *at, sizeof(head));
	h = (struct held){ .len = le32toh(head[0]), .gso_bytes = le32toh(head[1]),
			   .data = (const uint8_t *)block + *at + sizeof(head) };
	if (h.len < HELD_FRAME_MIN || h.len > HELD_FRAME_MAX || h.len > len - *at - sizeof(head))
		return error_set(err, EPROTO, "a held frame has an impossible length");
	if (h.gso_bytes > h.len)
		return error_set(err, EPROTO, "a held frame has an impossible segment size");
	*at += sizeof(head) + h.len;
	*ret = h;
	return 0;
}
