/*
 * Input: a byte of type, then a payload. What is accepted must say of itself
 * exactly what it came as; what is refused must say why, in one printable line.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/cleanup.h"
#include "proto/message.h"
#include "proto/text.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(message_free) struct message message = {};
	CLEANUP(buffer_free) struct buffer again = {};
	struct error err = {};

	if (size == 0)
		return 0;
	if (message_decode((enum wire_type)data[0], data + 1, size - 1, &message, &err) < 0) {
		if (err.code != EPROTO || !text_is(TEXT_PHRASE, err.msg))
			abort();
		return 0;
	}
	if (message_encode(&message, &again, &err) < 0 || again.len != size - 1)
		abort();
	if (again.len && memcmp(again.data, data + 1, again.len) != 0)
		abort();
	return 0;
}
