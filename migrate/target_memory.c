/* The target's column of the stages in which memory moves. */
#include "engine/base/clock.h"
#include "migrate/admission/machine.h"
#include "migrate/admission/reservation.h"
#include "migrate/memory/memory_receive.h"
#include "migrate/memory/store.h"
#include "migrate/target.h"
#include "migrate/target_lanes.h"
#include "migrate/target_rejoin.h"

/* It may grow on the way, but not into what others have reserved. */
int target_make_store(struct target *t, struct error *err)
{
	struct reservation others;
	uint64_t memory;

	if (machine_free_memory(&memory, err) < 0 ||
	    reservation_sum(t->node, t->container->name, &others, err) < 0)
		return -err->code;
	memory = memory > others.memory_bytes ? memory - others.memory_bytes : 0;
	return store_new(memory / STORE_PAGE, &t->store, err);
}

/* The pages that are here are no longer free, so they are not reserved any more. */
static void note_taken(struct target *t)
{
	uint64_t taken = store_stats(t->store).pages * STORE_PAGE;
	struct reservation left = t->reserved;
	struct error ignored;

	if (!t->container)
		return;			/* a checkpoint takes no memory here */
	left.memory_bytes = left.memory_bytes > taken ? left.memory_bytes - taken : 0;
	if (t->image_wanted)
		left.disk_bytes = t->offer.offer.disk_bytes;
	(void)reservation_write(t->container, &left, &ignored);
}

static int settle(void *ctx, struct error *err)
{
	return target_lanes_settle(ctx, err);
}

int target_receive_memory(struct target *t, struct error *err)
{
	const struct memory_receiver receiver = {
		.store = t->store, .shared = t->shared, .hashes = &t->hashes,
		.connections = t->offer.offer.connections, .settle = settle, .ctx = t };

	return memory_receive(t->channel, &receiver, err);
}

static int receive_rounds(struct target *t, struct error *err)
{
	for (;;) {
		struct message m = { 0 };
		enum wire_type type;

		if (channel_receive(t->channel, 0, &m, err) < 0)
			return -err->code;
		type = m.type;
		message_free(&m);
		if (type == WIRE_FROZEN) {
			timeline_begin(&t->times.restore, clock_us());
			target_lanes_freeze(t);
			target_rejoin_end(t);
			return 0;
		}
		if (target_receive_memory(t, err) < 0)
			return -err->code;
		t->rounds++;
		note_taken(t);
	}
}

/* When a further connection's thread fails, the first connection only seems to end. */
int target_precopy(struct target *t, struct error *err)
{
	struct error why;

	if (receive_rounds(t, err) == 0)
		return 0;
	if (target_lanes_failed(t, &why) < 0)
		*err = why;
	return -err->code;
}
