#include "engine/base/fault.h"
#include "migrate/memory/shared_sender.h"

/* Whole records only are in a block. */
static int send_record(const struct shared_sender *sender, const struct pages *p, const void *data, size_t len,
		       struct error *err)
{
	struct channel *ch = sender->channel;
	uint8_t head[PAGES_HEAD_BYTES];

	pages_encode_head(p, head);
	if ((channel_room(ch) < sizeof(head) + len && channel_send_data(ch, NULL, 0, err) < 0) ||
	    channel_send_data(ch, head, sizeof(head), err) < 0)
		return -err->code;
	return len ? channel_send_data(ch, data, len, err) : 0;
}

static int send_object(void *ctx, uint32_t number, uint64_t size, const struct pages_object *about,
		       struct error *err)
{
	uint8_t description[PAGES_OBJECT_HEAD_BYTES + PAGES_NAME_MAX];
	const struct pages rec = { .kind = PAGES_OBJECT, .pid = number, .address = size,
				   .n = pages_encode_object(about, description) };

	return send_record(ctx, &rec, description, rec.n, err);
}

static int send_pages(void *ctx, uint32_t number, uint64_t offset, const void *data, size_t n,
		      struct error *err)
{
	struct shared_sender *sender = ctx;
	const struct pages rec = { .kind = data ? PAGES_DATA : PAGES_ZERO, .pid = number, .address = offset,
				   .n = n };

	*(data ? &sender->sent : &sender->zero) += n;
	return send_record(sender, &rec, data, data ? n * PAGES_SIZE : 0, err);
}

static int send_gone(void *ctx, uint32_t number, struct error *err)
{
	const struct pages rec = { .kind = PAGES_DROP, .pid = number };

	return send_record(ctx, &rec, NULL, 0, err);
}

static int send_hash(void *ctx, uint32_t number, uint64_t hash, struct error *err)
{
	const struct pages rec = { .kind = PAGES_HASH, .pid = number, .n = 1,
				   .address = hash + fault_value("shared-hash", 0) };

	return send_record(ctx, &rec, NULL, 0, err);
}

static struct shared_sink sink_of(struct shared_sender *sender)
{
	return (struct shared_sink){ .object = send_object, .pages = send_pages, .gone = send_gone,
				     .hash = send_hash, .ctx = sender };
}

int shared_sender_round(struct shared_sender *sender, struct shared *s, uint64_t *ret_us, struct error *err)
{
	const struct shared_sink sink = sink_of(sender);

	return shared_round(s, &sink, ret_us, err);
}

int shared_sender_last(struct shared_sender *sender, struct shared *s, bool hashes, struct error *err)
{
	const struct shared_sink sink = sink_of(sender);

	if (shared_last_round(s, &sink, err) < 0)
		return -err->code;
	return hashes ? shared_hash(s, &sink, err) : 0;
}
