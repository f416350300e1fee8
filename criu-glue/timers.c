#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "criu-glue/timers.h"
#include "engine/base/cleanup.h"
#include "engine/base/fd.h"

#define FILES_IMG "files.img"
#define FILES_IMG_LIMIT (1u << 30)
#define HEAD_BYTES 8
#define FIELD_TIMERFD 12

enum { TIMER_TICKS = 5, TIMER_LEFT_S = 7, TIMER_LEFT_NS, TIMER_INTERVAL_S, TIMER_INTERVAL_NS, TIMER_END };

/* Protocol Buffers, as far as needed: a field's number, and its value as a
 * number or as bytes. */
struct field {
	uint64_t number, value;
	uint8_t *at;			/* the value's first byte */
	bool is_bytes;			/* value is their count */
};

static bool take_number(uint8_t **p, const uint8_t *end, uint64_t *ret)
{
	uint64_t v = 0;

	for (unsigned shift = 0; *p < end && shift < 64; shift += 7) {
		uint8_t byte = *(*p)++;

		v |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*ret = v;
			return true;
		}
	}
	return false;
}

static bool take_field(uint8_t **p, const uint8_t *end, struct field *ret)
{
	uint64_t key;

	if (!take_number(p, end, &key))
		return false;
	*ret = (struct field){ .number = key >> 3, .at = *p, .is_bytes = (key & 7) == 2 };
	switch (key & 7) {
	case 0:
	case 2:
		if (!take_number(p, end, &ret->value))
			return false;
		break;
	case 1:
		ret->value = 8;
		break;
	case 5:
		ret->value = 4;
		break;
	default:
		return false;
	}
	if ((key & 7) == 0)
		return true;
	ret->at = *p;
	if (ret->value > (uint64_t)(end - *p))
		return false;
	*p += ret->value;
	return true;
}

/* The number 0 is one byte, and so is 1. */
static bool wake(uint8_t *p, const uint8_t *end, size_t *n)
{
	struct field have[TIMER_END] = { 0 }, f;

	while (p < end) {
		if (!take_field(&p, end, &f))
			return false;
		if (f.number < TIMER_END && !f.is_bytes)
			have[f.number] = f;
	}
	if (have[TIMER_TICKS].value && !have[TIMER_LEFT_S].value && !have[TIMER_LEFT_NS].value &&
	    (have[TIMER_INTERVAL_S].value || have[TIMER_INTERVAL_NS].value) && have[TIMER_LEFT_NS].at) {
		*have[TIMER_LEFT_NS].at = 1;
		++*n;
	}
	return true;
}

static bool wake_record(uint8_t *p, const uint8_t *end, size_t *n)
{
	struct field f;

	while (p < end) {
		if (!take_field(&p, end, &f))
			return false;
		if (f.number == FIELD_TIMERFD && f.is_bytes && !wake(f.at, f.at + f.value, n))
			return false;
	}
	return true;
}

int timers_wake_image(void *image, size_t len, size_t *ret_n, struct error *err)
{
	uint8_t *p = image, *end = p + len;
	uint32_t size;

	*ret_n = 0;
	for (p += len < HEAD_BYTES ? len : HEAD_BYTES; p < end; p += size) {
		if ((size_t)(end - p) < sizeof(size))
			return error_set(err, EPROTO, FILES_IMG " is cut off");
		memcpy(&size, p, sizeof(size));
		p += sizeof(size);
		if (size > (size_t)(end - p) || !wake_record(p, p + size, ret_n))
			return error_set(err, EPROTO, FILES_IMG " can't be read");
	}
	return 0;
}

int timers_wake(int images_fd, struct error *err)
{
	CLEANUP(freep) char *image = NULL;
	size_t len, n;
	int r = fd_read_file_at(images_fd, FILES_IMG, FILES_IMG_LIMIT, &image, &len, err);

	if (r == -ENOENT)
		return 0;
	if (r < 0 || timers_wake_image(image, len, &n, err) < 0)
		return -err->code;
	return n ? fd_replace_file_at(images_fd, FILES_IMG, image, len, 0600, FD_REPLACE, err) : 0;
}
