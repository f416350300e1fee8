#include <errno.h>
#include <stdlib.h>

#include "migrate/channel/kept_frames.h"

/* Frames lie one behind the other; one that does not fit before the end of the
 * ring begins at its start. */
struct place {
	size_t at, len;
};

struct kept_frames {
	uint8_t *ring;
	size_t size;
	struct place *places;		/* a ring as well: frame n is at n % n_places */
	size_t n_places;
	uint64_t first, next;		/* numbers: the oldest, and the one to come */
	size_t at;			/* where the one to come goes */
};

/* However small the frames are, there are no more of them. */
#define SMALL_FRAME 512u

int kept_frames_new(size_t bytes, struct kept_frames **ret, struct error *err)
{
	CLEANUP(kept_frames_freep) struct kept_frames *k = calloc(1, sizeof(*k));

	if (bytes < 4 * KEPT_FRAME_MAX)
		return error_set(err, EINVAL, "%zu bytes are too few for frames", bytes);
	if (!k)
		return error_set(err, ENOMEM, "no memory to keep frames");
	k->size = bytes;
	k->n_places = bytes / SMALL_FRAME;
	k->first = k->next = 1;
	k->ring = malloc(bytes);
	k->places = calloc(k->n_places, sizeof(*k->places));
	if (!k->ring || !k->places)
		return error_set(err, ENOMEM, "no memory to keep frames");
	*ret = TAKE_PTR(k);
	return 0;
}

void kept_frames_free(struct kept_frames *k)
{
	if (!k)
		return;
	free(k->ring);
	free(k->places);
	free(k);
}

static struct place *place_of(const struct kept_frames *k, uint64_t number)
{
	return &k->places[number % k->n_places];
}

uint8_t *kept_frames_room(struct kept_frames *k)
{
	size_t oldest;

	if (k->first == k->next)
		k->at = 0;
	else if (k->next - k->first == k->n_places)
		return NULL;
	oldest = k->first == k->next ? k->size : place_of(k, k->first)->at;
	if (k->at > oldest || k->first == k->next) {
		if (k->size - k->at >= KEPT_FRAME_MAX)
			return k->ring + k->at;
		if (oldest < KEPT_FRAME_MAX)
			return NULL;
		k->at = 0;
		return k->ring;
	}
	return oldest - k->at >= KEPT_FRAME_MAX ? k->ring + k->at : NULL;
}

void kept_frames_add(struct kept_frames *k, size_t len)
{
	*place_of(k, k->next++) = (struct place){ k->at, len };
	k->at += len;
}

int kept_frames_confirm(struct kept_frames *k, uint64_t number, struct error *err)
{
	if (number + 1 < k->first || number >= k->next)
		return error_set(err, EPROTO, "the peer confirms frame %llu; it may be %llu to %llu",
				 (unsigned long long)number, (unsigned long long)k->first - 1,
				 (unsigned long long)k->next - 1);
	k->first = number + 1;
	return 0;
}

uint64_t kept_frames_first(const struct kept_frames *k)
{
	return k->first;
}

bool kept_frames_get(const struct kept_frames *k, uint64_t number, const uint8_t **ret, size_t *ret_len)
{
	const struct place *p = place_of(k, number);

	if (number < k->first || number >= k->next)
		return false;
	*ret = k->ring + p->at;
	*ret_len = p->len;
	return true;
}
