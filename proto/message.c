#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/cleanup.h"
#include "proto/control.pb-c.h"
#include "proto/frame.h"
#include "proto/message.h"
#include "proto/message_table.h"

/* No payload within WIRE_CONTROL_MAX_BYTES that keeps the rules needs more to
 * be parsed; one of a million empty fields would. */
#define PARSE_MAX_BYTES (4u << 20)

_Static_assert(sizeof(Godwit__Control__TreeKind) == sizeof(uint32_t), "FIELD_ENUM");
_Static_assert(sizeof(Godwit__Control__Outcome) == sizeof(uint32_t), "FIELD_ENUM");

static const ProtobufCMessageDescriptor *descriptor_of(enum wire_type type)
{
	static const ProtobufCMessageDescriptor *const descriptors[WIRE_TYPE_END] = {
		[WIRE_HELLO] = &godwit__control__hello__descriptor,
		[WIRE_OFFER] = &godwit__control__offer__descriptor,
		[WIRE_VERDICT] = &godwit__control__verdict__descriptor,
		[WIRE_TREE_BEGIN] = &godwit__control__tree_begin__descriptor,
		[WIRE_TREE_END] = &godwit__control__tree_end__descriptor,
		[WIRE_PREPARED] = &godwit__control__prepared__descriptor,
		[WIRE_FROZEN] = &godwit__control__frozen__descriptor,
		[WIRE_RESTORE] = &godwit__control__restore__descriptor,
		[WIRE_RESTORED] = &godwit__control__restored__descriptor,
		[WIRE_COMMIT] = &godwit__control__commit__descriptor,
		[WIRE_RESUMED] = &godwit__control__resumed__descriptor,
		[WIRE_RELEASE] = &godwit__control__release__descriptor,
		[WIRE_JOIN] = &godwit__control__join__descriptor,
		[WIRE_JOINED] = &godwit__control__joined__descriptor,
		[WIRE_RECEIVED] = &godwit__control__received__descriptor,
		[WIRE_ABORT] = &godwit__control__abort__descriptor,
		[WIRE_QUERY] = &godwit__control__query__descriptor,
		[WIRE_ANSWER] = &godwit__control__answer__descriptor,
		[WIRE_PROGRESS] = &godwit__control__progress__descriptor,
		[WIRE_SYNCED] = &godwit__control__synced__descriptor,
		[WIRE_FORGOTTEN] = &godwit__control__forgotten__descriptor,
		[WIRE_NETWORK] = &godwit__control__network__descriptor,
		[WIRE_PLACES] = &godwit__control__places__descriptor,
	};

	return descriptors[type];
}

/* The wire's row beside ours: both tables are in the order of field numbers. */
static const ProtobufCFieldDescriptor *twin(const ProtobufCMessageDescriptor *descriptor,
					    const struct message_shape *shape, size_t i)
{
	(void)shape;				/* NDEBUG */
	assert(descriptor->n_fields == shape->n_fields);
	assert(strcmp(descriptor->fields[i].name, shape->fields[i].name) == 0);
	return &descriptor->fields[i];
}

/* --- our struct to the wire's: texts are borrowed, structs are made ------ */

static void wire_free(const ProtobufCMessageDescriptor *descriptor,
		      const struct message_shape *shape, ProtobufCMessage *wire)
{
	if (!wire)
		return;
	for (size_t i = 0; i < shape->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = twin(descriptor, shape, i);
		ProtobufCMessage **list;
		size_t n;

		if (shape->fields[i].kind != FIELD_STRUCTS)
			continue;
		memcpy(&list, (char *)wire + field->offset, sizeof(list));
		memcpy(&n, (char *)wire + field->quantifier_offset, sizeof(n));
		for (size_t k = 0; k < n; k++)
			wire_free(field->descriptor, shape->fields[i].element, list[k]);
		free(list);
	}
	free(wire);
}

static ProtobufCMessage *wire_new(const ProtobufCMessageDescriptor *descriptor,
				  const struct message_shape *shape, const void *content);

/* Fills as much of the list as there is memory for; *n says how much that is. */
static ProtobufCMessage **wire_list(const ProtobufCMessageDescriptor *descriptor,
				    const struct message_shape *shape, const char *elements,
				    size_t *n)
{
	ProtobufCMessage **list = calloc(*n ? *n : 1, sizeof(*list));
	size_t wanted = *n;

	for (*n = 0; list && *n < wanted; (*n)++) {
		list[*n] = wire_new(descriptor, shape, elements + *n * shape->size);
		if (!list[*n])
			break;
	}
	return list;
}

static int wire_set(ProtobufCMessage *wire, const ProtobufCFieldDescriptor *to,
		    const struct message_field *from, const void *content)
{
	char *place = (char *)wire + to->offset;
	const char *source = (const char *)content + from->offset;
	ProtobufCMessage **list;
	protobuf_c_boolean flag;
	size_t n, wanted;

	switch (from->kind) {
	case FIELD_FLAG:
		flag = *(const bool *)source;
		memcpy(place, &flag, sizeof(flag));
		return 0;
	case FIELD_U32:
	case FIELD_ENUM:
		memcpy(place, source, sizeof(uint32_t));
		return 0;
	case FIELD_U64:
		memcpy(place, source, sizeof(uint64_t));
		return 0;
	case FIELD_TEXT:
		memcpy(place, source, sizeof(void *));
		return 0;
	case FIELD_TEXTS:
		memcpy(place, source, sizeof(void *));
		memcpy((char *)wire + to->quantifier_offset,
		       (const char *)content + from->count_offset, sizeof(size_t));
		return 0;
	case FIELD_STRUCTS:
		n = wanted = message_count(content, from);
		list = wire_list(to->descriptor, from->element, message_list(content, from), &n);
		memcpy(place, &list, sizeof(list));
		memcpy((char *)wire + to->quantifier_offset, &n, sizeof(n));
		return list && n == wanted ? 0 : -ENOMEM;
	}
	return -EINVAL;
}

/* NULL without memory. */
static ProtobufCMessage *wire_new(const ProtobufCMessageDescriptor *descriptor,
				  const struct message_shape *shape, const void *content)
{
	ProtobufCMessage *wire = calloc(1, descriptor->sizeof_message);

	if (!wire)
		return NULL;
	descriptor->message_init(wire);
	for (size_t i = 0; i < shape->n_fields; i++) {
		if (wire_set(wire, twin(descriptor, shape, i), &shape->fields[i], content) < 0) {
			wire_free(descriptor, shape, wire);
			return NULL;
		}
	}
	return wire;
}

static int pack(const ProtobufCMessage *wire, struct buffer *out, struct error *err)
{
	size_t size = protobuf_c_message_get_packed_size(wire);
	uint8_t *place;

	if (size > WIRE_CONTROL_MAX_BYTES)
		return error_set(err, EINVAL, "%zu bytes are too many for one message; "
				 "the most is %u", size, WIRE_CONTROL_MAX_BYTES);
	place = buffer_reserve(out, size, err);
	if (!place)
		return -err->code;
	out->len += protobuf_c_message_pack(wire, place);
	return 0;
}

int message_encode(const struct message *message, struct buffer *out, struct error *err)
{
	const ProtobufCMessageDescriptor *descriptor;
	const struct message_shape *shape;
	ProtobufCMessage *wire;
	int r;

	r = message_check(message, EINVAL, err);
	if (r < 0)
		return r;
	descriptor = descriptor_of(message->type);
	shape = message_shape(message->type);
	wire = wire_new(descriptor, shape, &message->hello);
	if (!wire)
		return error_set(err, ENOMEM, "no memory for a message");
	r = pack(wire, out, err);
	wire_free(descriptor, shape, wire);
	return r < 0 ? error_wrap(err, "%s", wire_type_name(message->type)) : 0;
}

int message_encode_frame(const struct message *message, struct buffer *out, struct error *err)
{
	static const uint8_t blank[WIRE_HEADER_BYTES];
	size_t start = out->len;
	uint8_t *head;
	int r;

	r = buffer_append(out, blank, sizeof(blank), err);
	if (r == 0)
		r = message_encode(message, out, err);
	if (r == 0) {
		head = out->data + start;
		r = frame_encode(message->type, 0, head + WIRE_HEADER_BYTES,
				 out->len - start - WIRE_HEADER_BYTES, head, err);
	}
	if (r < 0)
		out->len = start;
	return r;
}

/* --- the wire's struct to ours: texts and structs are copied ------------- */

static int no_memory(struct error *err)
{
	return error_set(err, ENOMEM, "no memory for a message");
}

static int content_fill(const struct message_shape *shape, const ProtobufCMessage *wire,
			void *content, struct error *err);

/* The count grows with what is filled, so that a half-built list can be freed. */
static int content_set_list(void *content, const struct message_field *to,
			    const ProtobufCMessage *wire, const ProtobufCFieldDescriptor *from,
			    struct error *err)
{
	size_t size = to->kind == FIELD_TEXTS ? sizeof(char *) : to->element->size;
	size_t *count = (size_t *)(void *)((char *)content + to->count_offset);
	size_t wanted;
	void **source;
	char *list;
	int r;

	memcpy(&source, (const char *)wire + from->offset, sizeof(source));
	memcpy(&wanted, (const char *)wire + from->quantifier_offset, sizeof(wanted));
	list = calloc(wanted ? wanted : 1, size);
	if (!list)
		return no_memory(err);
	memcpy((char *)content + to->offset, &list, sizeof(list));
	for (; *count < wanted; (*count)++) {
		char *place = list + *count * size;

		if (to->kind == FIELD_TEXTS) {
			*(char **)(void *)place = strdup(source[*count]);
			if (!*(char **)(void *)place)
				return no_memory(err);
			continue;
		}
		r = content_fill(to->element, source[*count], place, err);
		if (r < 0) {
			message_content_free(to->element, place);
			return r;
		}
	}
	return 0;
}

static int content_set(void *content, const struct message_field *to,
		       const ProtobufCMessage *wire, const ProtobufCFieldDescriptor *from,
		       struct error *err)
{
	const char *source = (const char *)wire + from->offset;
	char *place = (char *)content + to->offset;
	protobuf_c_boolean flag;
	const char *text;
	char *copy;

	switch (to->kind) {
	case FIELD_FLAG:
		memcpy(&flag, source, sizeof(flag));
		*(bool *)place = flag;
		return 0;
	case FIELD_U32:
	case FIELD_ENUM:
		memcpy(place, source, sizeof(uint32_t));
		return 0;
	case FIELD_U64:
		memcpy(place, source, sizeof(uint64_t));
		return 0;
	case FIELD_TEXT:
		memcpy(&text, source, sizeof(text));
		copy = strdup(text ? text : "");
		memcpy(place, &copy, sizeof(copy));
		return copy ? 0 : no_memory(err);
	case FIELD_TEXTS:
	case FIELD_STRUCTS:
		return content_set_list(content, to, wire, from, err);
	}
	return error_set(err, EINVAL, "%s has no kind", to->name);
}

/* content is zeroed; on failure the caller frees what is in it. */
static int content_fill(const struct message_shape *shape, const ProtobufCMessage *wire,
			void *content, struct error *err)
{
	if (wire->n_unknown_fields)
		return error_set(err, EPROTO, "it has unknown fields");
	for (size_t i = 0; i < shape->n_fields; i++) {
		int r = content_set(content, &shape->fields[i], wire,
				    twin(wire->descriptor, shape, i), err);

		if (r < 0)
			return r;
	}
	return 0;
}

/* --- parsing what a stranger sent ---------------------------------------- */

/* Memory that has been asked for in all; what is freed doesn't come back. */
static void *parse_alloc(void *ctx, size_t size)
{
	size_t *left = ctx;

	if (size > *left)
		return NULL;
	*left -= size;
	return malloc(size);
}

static void parse_free(void *ctx, void *pointer)
{
	(void)ctx;
	free(pointer);
}

/* Compares what is packed with what came. */
struct compare {
	ProtobufCBuffer base;		/* first: protobuf-c hands it back */
	const uint8_t *payload;
	size_t left;
	bool equal;
};

static void compare_append(ProtobufCBuffer *base, size_t len, const uint8_t *data)
{
	struct compare *compare = (struct compare *)(void *)base;

	if (!compare->equal || len > compare->left || memcmp(compare->payload, data, len) != 0) {
		compare->equal = false;
		return;
	}
	compare->payload += len;
	compare->left -= len;
}

/* Is the payload what we would have sent? Then nothing was dropped or cut in
 * parsing: no doubled field, no NUL within a text, no second form of a number.
 * (Unknown fields are kept by protobuf-c; content_fill refuses them.) */
static bool is_canonical(const ProtobufCMessage *wire, const void *payload, size_t len)
{
	struct compare compare = {
		.base.append = compare_append, .payload = payload, .left = len, .equal = true,
	};

	(void)protobuf_c_message_pack_to_buffer(wire, &compare.base);
	return compare.equal && compare.left == 0;
}

static int decode(enum wire_type type, const void *payload, size_t len, struct message *ret,
		  struct error *err)
{
	size_t left = PARSE_MAX_BYTES;
	ProtobufCAllocator allocator = { parse_alloc, parse_free, &left };
	ProtobufCMessage *wire;
	int r;

	wire = protobuf_c_message_unpack(descriptor_of(type), &allocator, len, payload);
	if (!wire)
		return error_set(err, EPROTO, "its %zu bytes can't be parsed", len);
	if (!is_canonical(wire, payload, len))
		r = error_set(err, EPROTO, "it has doubled or malformed fields");
	else
		r = content_fill(message_shape(type), wire, &ret->hello, err);
	protobuf_c_message_free_unpacked(wire, &allocator);
	return r;
}

int message_decode(enum wire_type type, const void *payload, size_t len, struct message *ret,
		   struct error *err)
{
	CLEANUP(message_free) struct message message = { .type = type };
	int r;

	if (!message_shape(type))
		return error_set(err, EPROTO, "type %u is no control message", (unsigned)type);
	if (len > WIRE_CONTROL_MAX_BYTES)
		return error_set(err, EPROTO, "%s of %zu bytes; the most is %u",
				 wire_type_name(type), len, WIRE_CONTROL_MAX_BYTES);
	r = decode(type, payload, len, &message, err);
	if (r < 0)
		return error_wrap(err, "%s", wire_type_name(type));
	r = message_check(&message, EPROTO, err);
	if (r < 0)
		return r;
	*ret = TAKE(message, (struct message){});
	return 0;
}
