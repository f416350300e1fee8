/* The target's column of the stages in which memory and files move. */
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

/* The pages and files that are here take no more room, so they are not reserved any more. */
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
	left.disk_bytes = left.disk_bytes > t->files_bytes ? left.disk_bytes - t->files_bytes : 0;
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

static int receive_part(struct target *t, const struct message *begin, struct error *err)
{
	if (begin->tree_begin.kind != MESSAGE_TREE_MEMORY)
		return target_take_tree(t, begin, err);
	if (target_receive_memory(t, err) < 0)
		return -err->code;
	t->rounds++;
	return 0;
}

static int receive_rounds(struct target *t, struct error *err)
{
	struct message m = { 0 };
	int r = 0;

	while (r == 0) {
		if (channel_receive(t->channel, 0, &m, err) < 0)
			return -err->code;
		if (m.type == WIRE_FROZEN)
			break;
		r = receive_part(t, &m, err);
		message_free(&m);
		note_taken(t);
	}
	message_free(&m);
	if (r < 0)
		return r;
	timeline_begin(&t->times.restore, clock_us());
	target_lanes_freeze(t);
	target_rejoin_end(t);
	return 0;
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
