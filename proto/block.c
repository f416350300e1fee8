#include <endian.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "proto/block.h"

struct block_encoder {
	ZSTD_CCtx *ctx;
};

struct block_decoder {
	ZSTD_DCtx *ctx;
};

int block_encoder_new(struct block_encoder **ret, struct error *err)
{
	CLEANUP(block_encoder_freep) struct block_encoder *encoder = calloc(1, sizeof(*encoder));

	if (encoder)
		encoder->ctx = ZSTD_createCCtx();
	if (!encoder || !encoder->ctx)
		return error_set(err, ENOMEM, "no memory for compression");
	*ret = TAKE_PTR(encoder);
	return 0;
}

void block_encoder_free(struct block_encoder *encoder)
{
	if (!encoder)
		return;
	(void)ZSTD_freeCCtx(encoder->ctx);
	free(encoder);
}

int block_decoder_new(struct block_decoder **ret, struct error *err)
{
	CLEANUP(block_decoder_freep) struct block_decoder *decoder = calloc(1, sizeof(*decoder));

	if (decoder)
		decoder->ctx = ZSTD_createDCtx();
	if (!decoder || !decoder->ctx)
		return error_set(err, ENOMEM, "no memory for decompression");
	*ret = TAKE_PTR(decoder);
	return 0;
}

void block_decoder_free(struct block_decoder *decoder)
{
	if (!decoder)
		return;
	(void)ZSTD_freeDCtx(decoder->ctx);
	free(decoder);
}

int block_level_min(void)
{
	return ZSTD_minCLevel();
}

int block_level_max(void)
{
	return ZSTD_maxCLevel();
}

/* The compressed length, or 0 when the block is better stored. The room that
 * zstd gets is what still pays, so it gives up early on what doesn't shrink. */
static int compress(struct block_encoder *encoder, int level, const void *raw, size_t raw_len,
		    void *room, size_t *ret_len, struct error *err)
{
	size_t n;

	n = ZSTD_CCtx_setParameter(encoder->ctx, ZSTD_c_compressionLevel, level);
	if (ZSTD_isError(n))
		return error_set(err, EINVAL, "compression level %d: %s", level,
				 ZSTD_getErrorName(n));
	n = ZSTD_compress2(encoder->ctx, room, raw_len - raw_len / 16, raw, raw_len);
	if (ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation)
		return error_set(err, ENOMEM, "no memory for compression at level %d", level);
	if (ZSTD_isError(n) && ZSTD_getErrorCode(n) != ZSTD_error_dstSize_tooSmall)
		return error_set(err, EIO, "compress a block of %zu bytes: %s", raw_len,
				 ZSTD_getErrorName(n));
	*ret_len = ZSTD_isError(n) || n >= raw_len ? 0 : n;
	return 0;
}

int block_encode(struct block_encoder *encoder, int level, const void *raw, size_t raw_len,
		 void *room, size_t room_size, struct block *ret, struct error *err)
{
	size_t len = 0;
	int r;

	if (raw_len == 0 || raw_len > WIRE_DATA_MAX_BYTES || room_size < raw_len)
		return error_set(err, EINVAL, "a block of %zu bytes with room for %zu; "
				 "blocks have 1 to %u bytes", raw_len, room_size,
				 WIRE_DATA_MAX_BYTES);
	if (level < block_level_min() || level > block_level_max())
		return error_set(err, EINVAL, "compression level %d is not within %d to %d",
				 level, block_level_min(), block_level_max());
	if (level != BLOCK_LEVEL_STORE) {
		r = compress(encoder, level, raw, raw_len, room, &len, err);
		if (r < 0)
			return r;
	}
	*ret = len ? (struct block){ room, len, WIRE_FLAG_ZSTD } : (struct block){ raw, raw_len, 0 };
	return 0;
}

/* Exactly one zstd frame that tells its size? Older formats and skippable
 * frames, which the library would take too, have another magic. */
static int content_size(const void *payload, size_t len, size_t *ret_size, struct error *err)
{
	unsigned long long size;
	uint32_t magic = 0;

	if (len >= sizeof(magic))
		memcpy(&magic, payload, sizeof(magic));
	if (le32toh(magic) != ZSTD_MAGICNUMBER)
		return error_set(err, EPROTO, "DATA frame is marked as zstd and isn't");
	size = ZSTD_getFrameContentSize(payload, len);
	if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR || size == 0)
		return error_set(err, EPROTO, "DATA frame doesn't tell the size of its content");
	if (size > WIRE_RAW_MAX_BYTES)
		return error_set(err, EPROTO, "DATA frame would unpack to %llu bytes; "
				 "the most is %u", size, WIRE_RAW_MAX_BYTES);
	if (ZSTD_findFrameCompressedSize(payload, len) != len)
		return error_set(err, EPROTO, "DATA frame is not one whole zstd frame");
	*ret_size = (size_t)size;
	return 0;
}

static int unpack(struct block_decoder *decoder, const void *payload, size_t len, void *room,
		  size_t room_size, size_t *ret_len, struct error *err)
{
	size_t size = 0, n;
	int r;

	r = content_size(payload, len, &size, err);
	if (r < 0)
		return r;
	if (size > room_size)
		return error_set(err, EPROTO, "DATA frame would unpack to %zu bytes; "
				 "there is room for %zu", size, room_size);
	n = ZSTD_decompressDCtx(decoder->ctx, room, size, payload, len);
	if (ZSTD_isError(n))
		return error_set(err, EPROTO, "DATA frame can't be unpacked: %s",
				 ZSTD_getErrorName(n));
	if (n != size)
		return error_set(err, EPROTO, "DATA frame unpacks to %zu bytes and promised %zu",
				 n, size);
	*ret_len = n;
	return 0;
}

int block_decode(struct block_decoder *decoder, uint16_t flags, const void *payload,
		 size_t len, void *room, size_t room_size, struct block *ret,
		 struct error *err)
{
	size_t size = 0;
	int r;

	if (len == 0 || len > WIRE_DATA_MAX_BYTES)
		return error_set(err, EPROTO, "DATA frame of %zu bytes; it has 1 to %u", len,
				 WIRE_DATA_MAX_BYTES);
	if (flags & ~WIRE_FLAG_ZSTD)
		return error_set(err, EPROTO, "DATA frame with unknown flags 0x%x", flags);
	if (!(flags & WIRE_FLAG_ZSTD)) {
		*ret = (struct block){ payload, len, 0 };
		return 0;
	}
	r = unpack(decoder, payload, len, room, room_size, &size, err);
	if (r < 0)
		return r;
	*ret = (struct block){ room, size, 0 };
	return 0;
}
