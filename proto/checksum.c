#include <xxhash.h>
#ifdef __x86_64__
#include <xxh_x86dispatch.h>	/* the same functions with the widest vectors that there are */
#endif

#include "proto/checksum.h"

struct checksum {
	XXH3_state_t *state;
	uint64_t bytes;
};

int checksum_new(struct checksum **ret, struct error *err)
{
	CLEANUP(checksum_freep) struct checksum *sum = calloc(1, sizeof(*sum));

	if (!sum)
		return error_set(err, ENOMEM, "no memory for a checksum");
	sum->state = XXH3_createState();
	if (!sum->state)
		return error_set(err, ENOMEM, "no memory for a checksum");
	checksum_reset(sum);
	*ret = TAKE_PTR(sum);
	return 0;
}

void checksum_free(struct checksum *sum)
{
	if (!sum)
		return;
	if (sum->state)
		(void)XXH3_freeState(sum->state);
	free(sum);
}

void checksum_reset(struct checksum *sum)
{
	(void)XXH3_64bits_reset(sum->state);
	sum->bytes = 0;
}

void checksum_update(struct checksum *sum, const void *data, size_t len)
{
	if (len == 0)
		return;
	(void)XXH3_64bits_update(sum->state, data, len);
	sum->bytes += len;
}

uint64_t checksum_value(const struct checksum *sum)
{
	return XXH3_64bits_digest(sum->state);
}

uint64_t checksum_bytes(const struct checksum *sum)
{
	return sum->bytes;
}

uint64_t checksum_of(uint64_t seed, const void *data, size_t len)
{
	return XXH3_64bits_withSeed(len ? data : "", len, seed);
}
