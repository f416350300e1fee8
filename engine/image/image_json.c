#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/image/image_json.h"

#define FILE_NAME "image.json"
#define SIZE_MAX_BYTES 65536

bool image_json_is_digest(const char *text)
{
	return strlen(text) == TREE_DIGEST_SIZE - 1 &&
	       strspn(text, "0123456789abcdef") == TREE_DIGEST_SIZE - 1;
}

/* What is inside says its name too, but the folder's name counts. */
static int take(json_t *root, struct image *image, struct error *err)
{
	json_int_t entries, bytes, created;
	const char *digest;
	json_error_t problem;

	if (json_unpack_ex(root, &problem, 0, "{s:s,s:I,s:I,s:I}", "digest", &digest, "entries",
			   &entries, "bytes", &bytes, "created", &created) < 0)
		return error_set(err, EBADMSG, "%s", problem.text);
	if (!image_json_is_digest(digest) || entries < 0 || bytes < 0 || created < 0)
		return error_set(err, EBADMSG, "impossible value");
	strcpy(image->digest, digest);
	image->entries = (uint64_t)entries;
	image->bytes = (uint64_t)bytes;
	image->created_us = (uint64_t)created;
	return 0;
}

int image_json_read(int image_fd, const char *name, struct image **ret, struct error *err)
{
	CLEANUP(image_freep) struct image *image = NULL;
	CLEANUP(json_decrefp) json_t *root = NULL;
	CLEANUP(freep) char *text = NULL;
	json_error_t problem;
	size_t len;

	if (image_new(name, &image, err) < 0 ||
	    fd_read_file_at(image_fd, FILE_NAME, SIZE_MAX_BYTES, &text, &len, err) < 0)
		return -err->code;
	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &problem);
	if (!root)
		return error_set(err, EBADMSG, FILE_NAME ": %s", problem.text);
	if (take(root, image, err) < 0)
		return error_wrap(err, FILE_NAME);
	*ret = TAKE_PTR(image);
	return 0;
}

int image_json_write(int image_fd, const struct image *image, struct error *err)
{
	CLEANUP(json_decrefp) json_t *root = json_pack(
		"{s:s,s:s,s:I,s:I,s:I}", "name", image->name, "digest", image->digest, "entries",
		(json_int_t)image->entries, "bytes", (json_int_t)image->bytes, "created",
		(json_int_t)image->created_us);
	CLEANUP(freep) char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;

	if (!text)
		return error_set(err, ENOMEM, "out of memory");
	return fd_replace_file_at(image_fd, FILE_NAME, text, strlen(text), 0600, FD_REPLACE, err);
}
