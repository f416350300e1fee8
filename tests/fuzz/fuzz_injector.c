/*
 * Input: four bytes of gso_bytes, then a frame as another node may send it. What
 * the kernel is told about it must lie within it.
 */
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>

#include "engine/network/gate.h"
#include "engine/network/injector.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gate_frame frame = { .data = data };
	struct virtio_net_hdr h;
	struct error err;

	if (size < sizeof(frame.gso_bytes) || size > UINT32_MAX)
		return 0;
	memcpy(&frame.gso_bytes, data, sizeof(frame.gso_bytes));
	frame.data += sizeof(frame.gso_bytes);
	frame.len = (uint32_t)(size - sizeof(frame.gso_bytes));
	if (injector_describe(&frame, &h, &err) < 0)
		return 0;
	if (h.flags && (uint32_t)h.csum_start + h.csum_offset + 2 > frame.len)
		abort();
	if ((h.gso_type != VIRTIO_NET_HDR_GSO_NONE) != (frame.gso_bytes > 0))
		abort();
	if (h.gso_type != VIRTIO_NET_HDR_GSO_NONE && (!h.flags || h.hdr_len >= frame.len))
		abort();
	return 0;
}
