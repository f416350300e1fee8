#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/oci/oci_decode.h"

struct block {
	struct block *next;
	max_align_t data[];
};

struct oci_arena {
	struct block *blocks;
	json_t *json[4];
	size_t n_json;
};

int oci_arena_new(struct oci_arena **ret, struct error *err)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : error_set(err, ENOMEM, "out of memory");
}

void oci_arena_free(struct oci_arena *a)
{
	while (a && a->blocks) {
		struct block *b = a->blocks;

		a->blocks = b->next;
		free(b);
	}
	for (size_t i = 0; a && i < a->n_json; i++)
		json_decref(a->json[i]);
	free(a);
}

void *oci_arena_alloc(struct oci_arena *a, size_t n, size_t size)
{
	struct block *b;

	if (size && n > (SIZE_MAX / 2) / size)
		return NULL;
	b = calloc(1, sizeof(*b) + n * size + 1);
	if (!b)
		return NULL;
	b->next = a->blocks;
	a->blocks = b;
	return b->data;
}

static void join(char out[OCI_PATH_SIZE], const char *path, const char *key)
{
	(void)snprintf(out, OCI_PATH_SIZE, "%.150s%s%.100s", path, *path ? "." : "", key);
}

static int no_memory(struct error *err)
{
	return error_set(err, ENOMEM, "out of memory");
}

static int wrong_type(const char *path, const char *wanted, struct error *err)
{
	return error_set(err, EINVAL, "%s must be %s", path, wanted);
}

static int decode_object(struct oci_arena *a, const char *path, json_t *json, const struct oci_type *type,
			 char *out, struct error *err);

static int decode_text(const char *path, json_t *v, const char **out, struct error *err)
{
	if (!json_is_string(v))
		return wrong_type(path, "text", err);
	*out = json_string_value(v);
	return 0;
}

static int decode_number(const char *path, json_t *v, struct oci_number *out, struct error *err)
{
	if (!json_is_integer(v))
		return wrong_type(path, "a whole number", err);
	out->set = true;
	out->value = json_integer_value(v);
	return 0;
}

static int check_list(const char *path, json_t *v, struct error *err)
{
	if (!json_is_array(v))
		return wrong_type(path, "a list", err);
	if (json_array_size(v) > OCI_LIST_MAX)
		return error_set(err, E2BIG, "%s has more than %d items", path, OCI_LIST_MAX);
	return 0;
}

static int decode_texts(struct oci_arena *a, const char *path, json_t *v, const char ***out, struct error *err)
{
	const char **list;
	json_t *item;
	size_t i;

	if (check_list(path, v, err) < 0)
		return -err->code;
	list = oci_arena_alloc(a, json_array_size(v) + 1, sizeof(*list));
	if (!list)
		return no_memory(err);
	json_array_foreach(v, i, item)
		if (decode_text(path, item, &list[i], err) < 0)
			return error_wrap(err, "item %zu", i);
	*out = list;
	return 0;
}

static int decode_numbers(struct oci_arena *a, const char *path, json_t *v, struct oci_list *out,
			  struct error *err)
{
	struct oci_number *list;
	json_t *item;
	size_t i;

	if (check_list(path, v, err) < 0)
		return -err->code;
	list = oci_arena_alloc(a, json_array_size(v), sizeof(*list));
	if (!list)
		return no_memory(err);
	json_array_foreach(v, i, item)
		if (decode_number(path, item, &list[i], err) < 0)
			return error_wrap(err, "item %zu", i);
	*out = (struct oci_list){ list, json_array_size(v) };
	return 0;
}

static int decode_map(struct oci_arena *a, const char *path, json_t *v, struct oci_list *out, struct error *err)
{
	struct oci_pair *list;
	const char *key;
	json_t *item;
	size_t n = 0;

	if (!json_is_object(v))
		return wrong_type(path, "an object", err);
	list = oci_arena_alloc(a, json_object_size(v), sizeof(*list));
	if (!list)
		return no_memory(err);
	json_object_foreach(v, key, item) {
		list[n].key = key;
		if (decode_text(path, item, &list[n++].value, err) < 0)
			return error_wrap(err, "'%s'", key);
	}
	*out = (struct oci_list){ list, n };
	return 0;
}

static int decode_pointer(struct oci_arena *a, const char *path, json_t *v, const struct oci_type *type,
			  void **out, struct error *err)
{
	void *object = oci_arena_alloc(a, 1, type->size);

	if (!object)
		return no_memory(err);
	if (decode_object(a, path, v, type, object, err) < 0)
		return -err->code;
	*out = object;
	return 0;
}

static int decode_objects(struct oci_arena *a, const char *path, json_t *v, const struct oci_type *type,
			  struct oci_list *out, struct error *err)
{
	char *list;
	json_t *item;
	size_t i;

	if (check_list(path, v, err) < 0)
		return -err->code;
	list = oci_arena_alloc(a, json_array_size(v), type->size);
	if (!list)
		return no_memory(err);
	json_array_foreach(v, i, item) {
		char part[OCI_PATH_SIZE];

		(void)snprintf(part, sizeof(part), "%.220s[%zu]", path, i);
		if (decode_object(a, part, item, type, list + i * type->size, err) < 0)
			return -err->code;
	}
	*out = (struct oci_list){ list, json_array_size(v) };
	return 0;
}

static int decode_keyed(struct oci_arena *a, const char *path, json_t *v, const struct oci_type *type,
			struct oci_list *out, struct error *err)
{
	const char *key;
	json_t *item;
	char *list;
	size_t n = 0;

	if (!json_is_object(v))
		return wrong_type(path, "an object", err);
	list = oci_arena_alloc(a, json_object_size(v), type->size);
	if (!list)
		return no_memory(err);
	json_object_foreach(v, key, item) {
		char part[OCI_PATH_SIZE], *at = list + n++ * type->size;

		join(part, path, key);
		if (decode_object(a, part, item, type, at, err) < 0)
			return -err->code;
		*(const char **)(void *)at = key;
	}
	*out = (struct oci_list){ list, n };
	return 0;
}

static int decode_value(struct oci_arena *a, const char *path, json_t *v, const struct oci_field *f, void *out,
			struct error *err)
{
	switch (f->kind) {
	case OCI_KIND_TEXT:
		return decode_text(path, v, out, err);
	case OCI_KIND_BOOL:
		if (!json_is_boolean(v))
			return wrong_type(path, "true or false", err);
		*(bool *)out = json_is_true(v);
		return 0;
	case OCI_KIND_NUMBER:
		return decode_number(path, v, out, err);
	case OCI_KIND_TEXTS:
		return decode_texts(a, path, v, out, err);
	case OCI_KIND_NUMBERS:
		return decode_numbers(a, path, v, out, err);
	case OCI_KIND_MAP:
		return decode_map(a, path, v, out, err);
	case OCI_KIND_OBJECT:
		return decode_pointer(a, path, v, f->type, out, err);
	case OCI_KIND_OBJECTS:
		return decode_objects(a, path, v, f->type, out, err);
	case OCI_KIND_KEYED:
		return decode_keyed(a, path, v, f->type, out, err);
	case OCI_KIND_REFUSED:
		return error_set(err, ENOTSUP, "%s: %s", path, f->type->refusal);
	case OCI_KIND_END:
		break;
	}
	abort();
}

static const struct oci_field *find_field(const struct oci_type *type, const char *key)
{
	for (const struct oci_field *f = type->fields; f->key; f++)
		if (!strcmp(f->key, key))
			return f;
	return NULL;
}

static int decode_object(struct oci_arena *a, const char *path, json_t *json, const struct oci_type *type,
			 char *out, struct error *err)
{
	char part[OCI_PATH_SIZE];
	const char *key;
	json_t *v;

	if (!json_is_object(json))
		return wrong_type(*path ? path : "the document", "an object", err);
	json_object_foreach(json, key, v) {
		const struct oci_field *f = find_field(type, key);

		join(part, path, key);
		if (!f)
			return error_set(err, EINVAL, "%s: no such field is known", part);
		if (!json_is_null(v) && decode_value(a, part, v, f, out + f->offset, err) < 0)
			return -err->code;
	}
	for (const struct oci_field *f = type->fields; f->key; f++)
		if ((f->flags & OCI_REQUIRED) && (!(v = json_object_get(json, f->key)) || json_is_null(v))) {
			join(part, path, f->key);
			return error_set(err, EINVAL, "%s is missing", part);
		}
	return 0;
}

/* jansson knows no number above 2^63 - 1, but "no limit" is 2^64 - 1 in many a file: such
 * literals outside of text become the negative number with the same bits. */
static void wrap_big_numbers(char *text)
{
	bool in_text = false;

	for (char *p = text; *p; p++) {
		char number[24], *end;
		unsigned long long v;
		size_t len;

		if (in_text && *p == '\\' && p[1])
			p++;
		else if (*p == '"')
			in_text = !in_text;
		if (in_text || *p < '1' || *p > '9')
			continue;
		errno = 0;
		v = strtoull(p, &end, 10);
		len = (size_t)(end - p);
		if (errno == 0 && v > INT64_MAX && *end != '.' && *end != 'e' && *end != 'E' &&
			len < sizeof(number)) {
			(void)snprintf(number, sizeof(number), "%*lld", (int)len, (long long)v);
			memcpy(p, number, len);
		}
		p = end - 1;
	}
}

int oci_decode(struct oci_arena *a, const char *text, size_t len, const char *where,
	       const struct oci_type *type, void *out, struct error *err)
{
	CLEANUP(freep) char *copy = strndup(text, len);
	json_error_t why;
	json_t *json;

	if (!copy || a->n_json == sizeof(a->json) / sizeof(*a->json))
		return no_memory(err);
	wrap_big_numbers(copy);
	json = json_loadb(copy, strlen(copy), JSON_REJECT_DUPLICATES, &why);
	if (!json)
		return error_set(err, EINVAL, "%s: line %d: %.200s", where, why.line, why.text);
	a->json[a->n_json++] = json;
	if (decode_object(a, "", json, type, out, err) < 0)
		return error_wrap(err, "%s", where);
	return 0;
}

void oci_decode_each_key(const struct oci_type *type, const char *prefix,
			 void (*fn)(void *ctx, const char *path, bool refused), void *ctx)
{
	for (const struct oci_field *f = type->fields; f->key; f++) {
		char path[OCI_PATH_SIZE];

		join(path, prefix, f->key);
		fn(ctx, path, f->kind == OCI_KIND_REFUSED);
		if (f->type && f->type->fields)
			oci_decode_each_key(f->type, path, fn, ctx);
	}
}
