#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/message_table.h"

size_t message_count(const void *content, const struct message_field *field)
{
	size_t n;

	memcpy(&n, (const char *)content + field->count_offset, sizeof(n));
	return n;
}

const void *message_list(const void *content, const struct message_field *field)
{
	const void *list;

	memcpy(&list, (const char *)content + field->offset, sizeof(list));
	return list;
}

static const char *message_text(const void *content, const struct message_field *field)
{
	const char *text = message_list(content, field);

	return text ? text : "";
}

static int check_shape(const struct message_shape *shape, const void *content, int code,
		       struct error *err);

static int check_number(const struct message_field *field, const void *content, int code,
			struct error *err)
{
	const char *place = (const char *)content + field->offset;
	uint64_t value;
	uint32_t narrow;

	if (field->kind == FIELD_U64) {
		memcpy(&value, place, sizeof(value));
	} else {
		memcpy(&narrow, place, sizeof(narrow));
		value = narrow;
	}
	if (value < field->min || value > field->max)
		return error_set(err, code, "%s is %" PRIu64 " and must be %" PRIu64 " to %" PRIu64,
				 field->name, value, field->min, field->max);
	return 0;
}

static int check_texts(const struct message_field *field, const void *content, int code,
		       struct error *err)
{
	const char *const *texts = message_list(content, field);
	size_t n = message_count(content, field);

	for (size_t i = 0; i < n; i++)
		if (!texts[i] || !text_is(field->text, texts[i]))
			return error_set(err, code, "%s %zu must be %s", field->name, i,
					 text_class_name(field->text));
	return 0;
}

static int check_structs(const struct message_field *field, const void *content, int code,
			 struct error *err)
{
	const char *elements = message_list(content, field);
	size_t n = message_count(content, field);

	for (size_t i = 0; i < n; i++)
		if (check_shape(field->element, elements + i * field->element->size, code, err) < 0)
			return error_wrap(err, "%s %zu", field->name, i);
	return 0;
}

static int check_field(const struct message_field *field, const void *content, int code,
		       struct error *err)
{
	switch (field->kind) {
	case FIELD_FLAG:
		return 0;
	case FIELD_U32:
	case FIELD_U64:
	case FIELD_ENUM:
		return check_number(field, content, code, err);
	case FIELD_TEXT:
		if (!text_is(field->text, message_text(content, field)))
			return error_set(err, code, "%s must be %s", field->name,
					 text_class_name(field->text));
		return 0;
	case FIELD_TEXTS:
	case FIELD_STRUCTS:
		if (message_count(content, field) > field->max)
			return error_set(err, code, "%zu %s; the most is %" PRIu64,
					 message_count(content, field), field->name, field->max);
		return field->kind == FIELD_TEXTS ? check_texts(field, content, code, err) :
			check_structs(field, content, code, err);
	}
	return error_set(err, EINVAL, "%s has no kind", field->name);
}

static int check_shape(const struct message_shape *shape, const void *content, int code,
		       struct error *err)
{
	const char *problem;

	for (size_t i = 0; i < shape->n_fields; i++)
		if (check_field(&shape->fields[i], content, code, err) < 0)
			return -err->code;
	problem = shape->problem ? shape->problem(content) : NULL;
	return problem ? error_set(err, code, "%s", problem) : 0;
}

int message_check(const struct message *message, int code, struct error *err)
{
	const struct message_shape *shape = message_shape(message->type);

	if (!shape)
		return error_set(err, code, "type %u is no control message",
				 (unsigned)message->type);
	if (check_shape(shape, &message->hello, code, err) < 0)
		return error_wrap(err, "%s", wire_type_name(message->type));
	return 0;
}

void message_content_free(const struct message_shape *shape, void *content)
{
	for (size_t i = 0; i < shape->n_fields; i++) {
		const struct message_field *field = &shape->fields[i];
		char *place = (char *)content + field->offset;
		size_t n;
		void *list;

		if (field->kind < FIELD_TEXT)
			continue;
		memcpy(&list, place, sizeof(list));
		n = list && field->kind != FIELD_TEXT ? message_count(content, field) : 0;
		for (size_t k = 0; k < n; k++) {
			if (field->kind == FIELD_TEXTS)
				free(((char **)list)[k]);
			else
				message_content_free(field->element,
						     (char *)list + k * field->element->size);
		}
		free(list);
	}
}

void message_free(struct message *message)
{
	const struct message_shape *shape = message_shape(message->type);

	if (shape)
		message_content_free(shape, &message->hello);
	*message = (struct message){};
}
