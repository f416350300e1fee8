/*
 * message_table.h - the fields of every message and their rules
 *
 * One row a field, in the order of its number in control.proto. message.c walks
 * the rows to convert, message_fields.c to judge and to free. Only for these
 * files; everybody else uses message.h.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "proto/message.h"
#include "proto/text.h"

enum field_kind {
	FIELD_FLAG,			/* bool */
	FIELD_U32,			/* uint32_t, within min and max */
	FIELD_U64,
	FIELD_ENUM,			/* any of our enums, within min and max */
	FIELD_TEXT,			/* const char * */
	FIELD_TEXTS,			/* const char ** and a count, to max */
	FIELD_STRUCTS,			/* array of element and a count, to max */
};

struct message_shape;

struct message_field {
	const char *name;		/* as in control.proto */
	enum field_kind kind;
	enum text_class text;
	size_t offset;
	size_t count_offset;		/* of the size_t beside a list */
	uint64_t min, max;
	const struct message_shape *element;
};

struct message_shape {
	size_t size;
	const struct message_field *fields;
	size_t n_fields;
	/* What is wrong between fields that are each fine; NULL: nothing. */
	const char *(*problem)(const void *content);
};

/* NULL for DATA and for numbers that are no type. */
const struct message_shape *message_shape(unsigned type);

/* Lists of a content struct, by offset. */
size_t message_count(const void *content, const struct message_field *field);
const void *message_list(const void *content, const struct message_field *field);

/* Applies every rule; the error has this code and names the field. */
int message_check(const struct message *message, int code, struct error *err);

/* Frees what a content struct owns, also when it is half filled. */
void message_content_free(const struct message_shape *shape, void *content);
