#include "tools/gate_json.h"

static json_t *one(const struct gate_count *c)
{
	return json_pack("{s:I,s:I}", "frames", (json_int_t)c->frames, "bytes", (json_int_t)c->bytes);
}

static json_t *by_state(const struct gate_count counts[GATE_STATES])
{
	json_t *o = json_object();

	for (enum gate_state i = 0; i < GATE_STATES; i++)
		(void)json_object_set_new(o, gate_state_name(i), one(&counts[i]));
	return o;
}

/* By the states that keep nothing. */
static struct gate_count dropped(const struct gate_counters *n)
{
	const struct gate_count *all[] = { &n->to[GATE_MUTED], &n->to[GATE_CLOSED], &n->from[GATE_HELD],
					   &n->from[GATE_AWAY], &n->from[GATE_CLOSED] };
	struct gate_count sum = { 0 };

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		sum.frames += all[i]->frames;
		sum.bytes += all[i]->bytes;
	}
	return sum;
}

json_t *gate_json(const struct gate_counters *n)
{
	const struct gate_count none = dropped(n);

	return json_pack("{s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "to", by_state(n->to), "from", by_state(n->from),
			 "held", one(&n->held), "dropped", one(&none), "ring_full", one(&n->ring_full),
			 "too_long", one(&n->too_long), "expired", one(&n->expired),
			 "injected", one(&n->injected), "undelivered", one(&n->undelivered),
			 "redirected", one(&n->redirected));
}
