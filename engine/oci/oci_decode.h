/*
 * oci_decode.h - JSON objects into structs, by tables
 *
 * A table has a row for each key that an object may have. A key that is in no
 * row is refused by its whole path ("linux.resources.memory.colour"), a value
 * of another type too; null is the same as absent. Text is borrowed from the
 * JSON value, which must live as long; everything else is the arena's.
 *
 *	struct root { const char *path; bool read_only; };
 *	static const struct oci_field fields[] = {
 *		OCI_FIELD("path", TEXT, struct root, path, NULL, OCI_REQUIRED),
 *		OCI_FIELD("readonly", BOOL, struct root, read_only, NULL, 0),
 *		OCI_FIELDS_END,
 *	};
 *	static const struct oci_type type = { sizeof(struct root), fields };
 *
 * Whole numbers up to 2^64 - 1 are taken; above 2^63 they come as the negative
 * number with the same bits.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"

#define OCI_JSON_LIMIT (4 << 20)
#define OCI_LIST_MAX 4096
#define OCI_PATH_SIZE 256

struct oci_number {
	bool set;
	int64_t value;
};

struct oci_list {
	void *items;			/* n of them, of the type that the row names */
	size_t n;
};

struct oci_pair {
	const char *key, *value;
};

enum oci_kind {
	OCI_KIND_END,
	OCI_KIND_TEXT,			/* const char *, NULL: absent */
	OCI_KIND_BOOL,			/* bool */
	OCI_KIND_NUMBER,		/* struct oci_number */
	OCI_KIND_TEXTS,			/* const char **, NULL-terminated; NULL: absent */
	OCI_KIND_NUMBERS,		/* struct oci_list of struct oci_number */
	OCI_KIND_MAP,			/* struct oci_list of struct oci_pair */
	OCI_KIND_OBJECT,		/* pointer to a struct, NULL: absent */
	OCI_KIND_OBJECTS,		/* struct oci_list of structs */
	OCI_KIND_KEYED,			/* the same of an object; a struct begins with its const char *key */
	OCI_KIND_REFUSED,		/* known, and not possible here: type->refusal says why */
};

#define OCI_REQUIRED 1u

struct oci_field;

struct oci_type {
	size_t size;
	const struct oci_field *fields;
	const char *refusal;
};

struct oci_field {
	const char *key;
	enum oci_kind kind;
	size_t offset;
	const struct oci_type *type;	/* of objects */
	unsigned flags;
};

#define OCI_FIELD(key, kind, struct_type, member, type, flags) \
	{ key, OCI_KIND_##kind, offsetof(struct_type, member), type, flags }
#define OCI_FIELDS_END { NULL, OCI_KIND_END, 0, NULL, 0 }

/* What was allocated for a decoded value, and the JSON that its text is in. */
struct oci_arena;

int oci_arena_new(struct oci_arena **ret, struct error *err);
void oci_arena_free(struct oci_arena *a);
DEFINE_CLEANUP(struct oci_arena *, oci_arena_free)

/* Zeroed, the arena's; NULL when there is no memory. */
void *oci_arena_alloc(struct oci_arena *a, size_t n, size_t size);

/* Parses text (the JSON becomes the arena's) and fills out; where names the
 * whole in errors (its keys' path begins after it). -EINVAL names the key. */
int oci_decode(struct oci_arena *a, const char *text, size_t len, const char *where,
	       const struct oci_type *type, void *out, struct error *err);

/* Calls fn for the path of every key of a type, in the order of its rows; lists
 * and objects are gone into. For whoever wants to know what is understood. */
void oci_decode_each_key(const struct oci_type *type, const char *prefix,
			 void (*fn)(void *ctx, const char *path, bool refused), void *ctx);
