#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/tree_walk.h"
#include "migrate/sums.h"
#include "proto/checksum.h"

#define IMAGES "images"
#define VERSION 1
#define SUMS_LIMIT (64u << 20)
#define PIECE 65536

struct sum {
	uint64_t size;
	char xxh3[17];
};

static int sum_file(int fd, struct sum *ret, struct error *err)
{
	CLEANUP(checksum_freep) struct checksum *sum = NULL;
	char piece[PIECE];

	if (checksum_new(&sum, err) < 0)
		return -err->code;
	for (;;) {
		ssize_t n = pread(fd, piece, sizeof(piece), (off_t)checksum_bytes(sum));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(err, errno, "read: %s", strerror(errno));
		if (n == 0)
			break;
		checksum_update(sum, piece, (size_t)n);
	}
	ret->size = checksum_bytes(sum);
	(void)snprintf(ret->xxh3, sizeof(ret->xxh3), "%016llx", (unsigned long long)checksum_value(sum));
	return 0;
}

static int add(void *files, const struct tree_entry *entry, int fd, struct error *err)
{
	struct sum sum;

	if (fd < 0)
		return 0;
	if (sum_file(fd, &sum, err) < 0)
		return error_wrap(err, IMAGES "/%s", entry->path);
	if (json_object_set_new(files, entry->path, json_pack("{s:I,s:s}", "size", (json_int_t)sum.size,
							      "xxh3", sum.xxh3)) < 0)
		return error_set(err, ENOMEM, "out of memory");
	return 0;
}

/* Takes every file that is as it was out of the list. */
static int compare(void *files, const struct tree_entry *entry, int fd, struct error *err)
{
	const json_t *known = json_object_get(files, entry->path);
	const char *xxh3 = json_string_value(json_object_get(known, "xxh3"));
	json_int_t size = json_integer_value(json_object_get(known, "size"));
	struct sum sum;

	if (fd < 0 || !known)
		return 0;
	if (sum_file(fd, &sum, err) < 0)
		return error_wrap(err, IMAGES "/%s", entry->path);
	if ((json_int_t)sum.size != size)
		return error_set(err, EBADMSG, IMAGES "/%s is damaged: it has %llu bytes and had %lld", entry->path,
				 (unsigned long long)sum.size, (long long)size);
	if (!xxh3 || strcmp(sum.xxh3, xxh3) != 0)
		return error_set(err, EBADMSG, IMAGES "/%s is damaged: its content has changed", entry->path);
	(void)json_object_del(files, entry->path);
	return 0;
}

static int walk(int dirfd, tree_visit_fn visit, json_t *files, struct error *err)
{
	CLEANUP(fd_closep) int images = -EBADF;

	if (fd_open_dir_at(dirfd, IMAGES, false, 0, &images, err) < 0)
		return -err->code;
	return tree_walk(images, true, visit, files, NULL, err);
}

int sums_write(int dirfd, struct error *err)
{
	json_t *files = json_object();
	json_t *root = json_pack("{s:i,s:o}", "version", VERSION, "files", files);
	CLEANUP(freep) char *text = NULL;
	int r = root ? walk(dirfd, add, files, err) : -ENOMEM;

	if (r == 0)
		text = json_dumps(root, JSON_INDENT(2) | JSON_SORT_KEYS);
	json_decref(root);
	if (root && r < 0)
		return error_wrap(err, SUMS_JSON);
	if (!text)
		return error_set(err, ENOMEM, SUMS_JSON ": out of memory");
	return fd_replace_file_at(dirfd, SUMS_JSON, text, strlen(text), 0600, FD_REPLACE, err);
}

static int check(int dirfd, json_t *root, struct error *err)
{
	json_t *files = NULL;
	json_error_t je;
	int version = 0;

	if (json_unpack_ex(root, &je, 0, "{s:i,s:o!}", "version", &version, "files", &files) < 0)
		return error_set(err, EINVAL, SUMS_JSON ": %s", je.text);
	if (version != VERSION || !json_is_object(files))
		return error_set(err, ENOTSUP, SUMS_JSON ": version %d is not supported, only %d", version, VERSION);
	if (walk(dirfd, compare, files, err) < 0)
		return -err->code;
	if (json_object_size(files) > 0)
		return error_set(err, EBADMSG, IMAGES "/%.200s is missing",
				 json_object_iter_key(json_object_iter(files)));
	return 0;
}

int sums_check(int dirfd, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	json_error_t je;
	json_t *root;
	int r = fd_read_file_at(dirfd, SUMS_JSON, SUMS_LIMIT, &text, NULL, err);

	if (r == -ENOENT)
		return error_set(err, ENOENT, "it has no " SUMS_JSON ": the checkpoint was not finished");
	if (r < 0)
		return r;
	root = json_loads(text, JSON_REJECT_DUPLICATES, &je);
	r = root ? check(dirfd, root, err) :
		   error_set(err, EINVAL, SUMS_JSON " is damaged: line %d: %s", je.line, je.text);
	json_decref(root);
	return r;
}
